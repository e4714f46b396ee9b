package browsertest

import (
	"context"
	"strings"
	"time"

	"github.com/chromedp/cdproto/backgroundservice"
	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/serviceworker"
	"github.com/chromedp/chromedp"
)

// Before runs JavaScript in each document that the tab loads from now on, before
// any script of its own.
func (tab *Tab) Before(js string) {
	tab.t.Helper()
	Run(tab, func(ctx context.Context, t *chromedp.Target) (page.AddScriptToEvaluateOnNewDocumentResult, error) {
		return cdp.Call(ctx, t, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: js})
	})
}

// Permit lets pages of the origin show notifications.
func (tab *Tab) Permit(origin string) {
	tab.permit(origin, browser.PermissionSettingGranted)
}

// Forbid has their reader refuse it.
func (tab *Tab) Forbid(origin string) { tab.permit(origin, browser.PermissionSettingDenied) }

func (tab *Tab) permit(origin string, setting browser.PermissionSetting) {
	tab.t.Helper()
	for _, name := range []string{"notifications", "push"} {
		params := browser.SetPermissionParams{
			Permission:       &browser.PermissionDescriptor{Name: name, UserVisibleOnly: true},
			Setting:          setting,
			Origin:           origin,
			BrowserContextID: chromedp.FromContext(tab.ctx).BrowserContextID,
		}
		Run(tab, func(ctx context.Context, t *chromedp.Target) (cdp.Empty, error) {
			return cdp.Call(ctx, t, browser.SetPermission, params)
		})
	}
}

// Push delivers a push message to the origin's service worker, as DevTools do,
// and returns when the browser has displayed a notification for it. Asking for
// notifications earlier would lose it: Chromium then forgets what is on its way
// to the screen. The worker must have been registered.
func (tab *Tab) Push(origin, data string) {
	tab.t.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, Patience)
	defer cancel()
	found, displayed := make(chan serviceworker.RegistrationID, 1), make(chan struct{}, 1)
	err := chromedp.Listen(ctx, func(ev any) {
		switch ev := ev.(type) {
		case *serviceworker.EventWorkerRegistrationUpdated:
			for _, r := range ev.Registrations {
				if strings.HasPrefix(r.ScopeURL, origin+"/") && !r.IsDeleted {
					offer(found, r.RegistrationID)
				}
			}
		case *backgroundservice.EventBackgroundServiceEventReceived:
			if e := ev.BackgroundServiceEvent; e.EventName == "Notification displayed" && strings.HasPrefix(e.Origin+"/", origin+"/") {
				offer(displayed, struct{}{})
			}
		}
	})
	if err != nil {
		tab.t.Fatalf("listen to the browser: %v", err)
	}
	// Enabling tells of all that there are; off first, in case that it was on.
	Run(tab, func(ctx context.Context, t *chromedp.Target) (cdp.Empty, error) {
		if _, err := cdp.Call(ctx, t, serviceworker.Disable, cdp.Empty{}); err != nil {
			return cdp.Empty{}, err
		}
		return cdp.Call(ctx, t, serviceworker.Enable, cdp.Empty{})
	})
	Run(tab, func(ctx context.Context, t *chromedp.Target) (cdp.Empty, error) {
		const notifications = backgroundservice.ServiceNameNotifications
		// What was displayed before would be told of again.
		if _, err := cdp.Call(ctx, t, backgroundservice.ClearEvents, backgroundservice.ClearEventsParams{Service: notifications}); err != nil {
			return cdp.Empty{}, err
		}
		if _, err := cdp.Call(ctx, t, backgroundservice.StartObserving, backgroundservice.StartObservingParams{Service: notifications}); err != nil {
			return cdp.Empty{}, err
		}
		return cdp.Call(ctx, t, backgroundservice.SetRecording, backgroundservice.SetRecordingParams{ShouldRecord: true, Service: notifications})
	})
	Run(tab, func(ctx context.Context, t *chromedp.Target) (cdp.Empty, error) {
		return cdp.Call(ctx, t, serviceworker.DeliverPushMessage, serviceworker.DeliverPushMessageParams{
			Origin: origin, RegistrationID: await(tab, found, "a service worker of "+origin), Data: data,
		})
	})
	await(tab, displayed, "a notification")
}

// offer gives c a value that somebody waits for, once.
func offer[T any](c chan T, v T) {
	select {
	case c <- v:
	default: // told already
	}
}

func await[T any](tab *Tab, c chan T, what string) (v T) {
	tab.t.Helper()
	select {
	case v = <-c:
	case <-time.After(Patience):
		tab.t.Fatalf("waited in vain for %s", what)
	}
	return v
}

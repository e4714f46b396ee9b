package browsertest

import (
	"context"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// Freeze puts the page to sleep, as browsers do with tabs that nobody looks at:
// none of its tasks run.
func (tab *Tab) Freeze() { tab.lifecycle(page.SetWebLifecycleStateStateFrozen) }

// Thaw wakes it up.
func (tab *Tab) Thaw() { tab.lifecycle(page.SetWebLifecycleStateStateActive) }

func (tab *Tab) lifecycle(state page.SetWebLifecycleStateState) {
	tab.t.Helper()
	Run(tab, func(ctx context.Context, t *chromedp.Target) (cdp.Empty, error) {
		return cdp.Call(ctx, t, page.SetWebLifecycleState, page.SetWebLifecycleStateParams{State: state})
	})
}

// Offline takes the network from the page, or gives it back: its requests fail,
// and it is told. Connections that stand are left alone, as by a lost network.
func (tab *Tab) Offline(offline bool) {
	tab.t.Helper()
	Run(tab, func(ctx context.Context, t *chromedp.Target) (cdp.Empty, error) {
		if _, err := cdp.Call(ctx, t, network.Enable, network.EnableParams{}); err != nil {
			return cdp.Empty{}, err
		}
		rules := network.EmulateNetworkConditionsByRuleParams{MatchedNetworkConditions: []*network.Conditions{
			{Offline: offline, DownloadThroughput: -1, UploadThroughput: -1},
		}}
		if _, err := cdp.Call(ctx, t, network.EmulateNetworkConditionsByRule, rules); err != nil {
			return cdp.Empty{}, err
		}
		return cdp.Call(ctx, t, network.OverrideNetworkState, network.OverrideNetworkStateParams{
			Offline: offline, DownloadThroughput: -1, UploadThroughput: -1,
		})
	})
}

// Screenshot is what the window shows, as PNG.
func (tab *Tab) Screenshot() []byte {
	tab.t.Helper()
	return Run(tab, chromedp.CaptureScreenshot())
}

/*
 * News by polling, for browsers without WebSocket, fetch, promises or modules:
 * ECMAScript 3, XMLHttpRequest and nothing else.
 *
 *   var news = newswirePoll({
 *     url: "",                             // "" asks the page's own origin; "https://push.example.com" needs a browser with CORS
 *     token: function (done) { … },        // calls done with the reader's token, or with nothing; or the token itself
 *     follow: ["tech", "sport"],           // optional: what the reader follows from now on
 *     every: 30,                           // seconds from one answer to the next question
 *     wait: 0,                             // seconds that the server may wait for news before it answers, at most 25
 *     onMessage: function (message) { … }, // acknowledged when this returns; what throws comes again
 *     onError: function (text) { … }       // optional; it goes on by itself
 *   });
 *   news.stop();
 */
function newswirePoll(options) {
	var every = 1000 * (options.every || 30), longest = 300000, pause = every;
	var had = {}; // ids that were shown, and whose acknowledgement may not have arrived
	var follow = options.follow, request = null, timer = null, stopped = false;

	function parse(text) {
		if (window.JSON) {
			return JSON.parse(text);
		}
		// What is JSON: without its strings nothing but values and punctuation is left (RFC 4627, 6).
		if (/[^,:{}\[\]0-9.\-+Eaeflnr-u \n\r\t]/.test(text.replace(/"(\\.|[^"\\])*"/g, ""))) {
			throw new Error("not JSON");
		}
		return eval("(" + text + ")");
	}

	// quote writes a list of strings as JSON.
	function quote(list) {
		var out = [], i;
		for (i = 0; i < list.length; i++) {
			out.push("\"" + String(list[i]).replace(/["\\]/g, "\\$&") + "\"");
		}
		return "[" + out.join(",") + "]";
	}

	function withToken(then) {
		if (typeof options.token !== "function") {
			then(options.token);
			return;
		}
		var called = false;
		options.token(function (token) {
			if (!called && !stopped) {
				called = true;
				if (token) {
					then(token);
				} else {
					failed("no token", 0);
				}
			}
		});
	}

	// ask makes a request; then gets what was answered unless that is an error.
	function ask(method, path, body, then) {
		withToken(function (token) {
			var xhr = request = window.XMLHttpRequest ? new XMLHttpRequest() : new ActiveXObject("Microsoft.XMLHTTP");
			xhr.open(method, (options.url || "") + path, true);
			xhr.setRequestHeader("Authorization", "Bearer " + token);
			if (body) {
				xhr.setRequestHeader("Content-Type", "application/json");
			}
			xhr.onreadystatechange = function () {
				if (xhr.readyState !== 4 || stopped) {
					return;
				}
				request = null;
				var status = xhr.status === 1223 ? 204 : xhr.status; // as Internet Explorer 8 has it
				if (status >= 200 && status < 300) {
					then(status === 200 ? xhr.responseText : "");
				} else {
					failed(status ? method + " " + path + ": " + status : "no answer", status ? xhr.getResponseHeader("Retry-After") : 0);
				}
			};
			xhr.send(body || null);
		});
	}

	// again asks later, at a moment that not all readers share.
	function again(milliseconds) {
		timer = setTimeout(poll, milliseconds * (0.9 + 0.2 * Math.random()));
	}

	function failed(text, retryAfter) {
		if (options.onError) {
			options.onError(text);
		}
		again(Math.max(pause, 1000 * (parseInt(retryAfter, 10) || 0)));
		pause = Math.min(2 * pause, longest);
	}

	function poll() {
		if (follow) {
			ask("PATCH", "/v1/subscriptions", "{\"follow\":" + quote(follow) + "}", function () {
				follow = null;
				poll();
			});
			return;
		}
		var query = "?ack=manual&wait=" + (options.wait || 0) + "&at=" + new Date().getTime(); // Internet Explorer caches what it shall not
		ask("GET", "/v1/poll" + query, null, function (text) {
			var answer;
			try {
				answer = text ? parse(text) : { messages: [] };
			} catch (e) {
				failed("the answer is no JSON", 0);
				return;
			}
			pause = every;
			show(answer.messages);
		});
	}

	// show hands messages on, up to the first that throws, and acknowledges them.
	function show(messages) {
		var last = "", i, m;
		for (i = 0; i < messages.length && !stopped; i++) {
			m = messages[i];
			if (had[m.id] !== true) {
				try {
					options.onMessage(m);
				} catch (e) {
					if (options.onError) {
						options.onError("onMessage: " + (e.message || e));
					}
					break;
				}
				had[m.id] = true;
			}
			last = m.id;
		}
		if (stopped) {
			return;
		}
		if (!last) {
			again(every);
			return;
		}
		ask("POST", "/v1/ack", "{\"upto\":\"" + last + "\"}", function () {
			had = {};
			again(messages.length < 100 || i < messages.length ? every : 0); // 100: there may be more
		});
	}

	poll();
	return {
		stop: function () {
			stopped = true;
			clearTimeout(timer);
			if (request) {
				request.abort();
			}
		}
	};
}

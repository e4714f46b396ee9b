/* The page for old browsers: ECMAScript 3. */
(function () {
	var news = null, state = document.getElementById("state"), list = document.getElementById("news");

	function text(element, value) {
		element.appendChild(document.createTextNode(value));
		return element;
	}

	// token asks the demo, which plays the site's own login.
	function token(done) {
		var xhr = window.XMLHttpRequest ? new XMLHttpRequest() : new ActiveXObject("Microsoft.XMLHTTP");
		xhr.open("GET", "/demo/token?reader=" + encodeURIComponent(document.getElementById("reader").value), true);
		xhr.onreadystatechange = function () {
			if (xhr.readyState === 4) {
				var found = xhr.status === 200 && /"token":"([^"]+)"/.exec(xhr.responseText);
				done(found ? found[1] : "");
			}
		};
		xhr.send(null);
	}

	// rows are the shown articles by table and key.
	var rows = {};

	function show(message) {
		var key = message.source + " " + message.key.id, row = rows[key];
		if (!row) {
			row = rows[key] = document.createElement("li");
			list.insertBefore(row, list.firstChild);
		}
		row.className = message.action;
		if (message.action === "retract") {
			return; // struck through
		}
		while (row.firstChild) {
			row.removeChild(row.firstChild);
		}
		row.appendChild(text(document.createElement("b"), message.data.title || "(without a title)"));
		var tags = text(document.createElement("span"), message.tags.join(", "));
		tags.className = "tags";
		row.appendChild(tags);
		say("last news at " + new Date().toLocaleTimeString());
	}

	function say(what) {
		while (state.firstChild) {
			state.removeChild(state.firstChild);
		}
		text(state, what);
	}

	document.getElementById("who").onsubmit = function () {
		var tags = document.getElementById("tags").value.split(/\s*,\s*/);
		if (news) {
			news.stop();
		}
		say("asks every 2 seconds");
		news = newswirePoll({ url: "", token: token, follow: tags, every: 2, onMessage: show, onError: say });
		return false;
	};
})();

// What a strict TypeScript project may write, and what it may not.
import { connect, StopError, type Message, type Newswire } from "newswire-client";
import { enablePush, PushError } from "newswire-client/push";
import { useNewswire } from "newswire-client/react";

interface Article {
  id: number;
  title: string;
}

const news: Newswire = connect<Article, { id: number }>({
  url: new URL("wss://push.example.com/v1/ws"),
  getToken: async () => {
    const answer = await fetch("/token");
    if (answer.status === 401) throw new StopError("logged out");
    return answer.text();
  },
  follow: ["tech"] as const,
  onMessage: async ({ action, data, key }, control) => {
    if (action === "retract") remove(key.id);
    else show(data.title);
    control.ack();
  },
  onGap: ({ after }) => show(after),
  onState: ({ state, code, transport }) => show(`${state} ${code ?? 0} ${transport ?? ""}`),
  storage: sessionStorage,
});
const { follow } = await news.follow(["sport"]);
show(follow.join());
news.ack("id");
news.ack(["id"] as const);
news.close();

connect({ url: "/", onMessage: (message: Message) => show(String(message.data["title"])) });

enablePush({ url: "/", getToken: () => "" }).catch((err: unknown) => {
  if (err instanceof PushError && err.code === "denied") show(err.message);
});

export function List(): string {
  const { articles, status, gap } = useNewswire<Article>({ url: "/", getToken: () => "", follow: ["tech"] });
  return articles.map((article) => article.data.title.toUpperCase()).join() + status.state + (gap?.after ?? "");
}

// @ts-expect-error onMessage is required
connect({ url: "/" });
// @ts-expect-error there is no such state
const state: boolean = news.state === "sleeping";
// @ts-expect-error nobody changes what the server told
news.subscriptions = { follow: [], mute: [] };
// @ts-expect-error a title is no number
connect<Article>({ url: "/", onMessage: ({ data }) => data.title.toFixed() });

declare function show(text: string): void;
declare function remove(id: number): void;
void state;

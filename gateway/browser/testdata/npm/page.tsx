// The React page that the tests drive.
import { StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";
import { useNewswire } from "newswire-client/react";

interface Article {
  title: string;
}

declare global {
  interface Window {
    setFollow(tags: string[]): void;
    setShown(shown: boolean): void;
    setReader(reader: string): void;
  }
}

function News({ follow, reader }: { follow: string[]; reader: string }) {
  const { articles, status, gap, subscriptions } = useNewswire<Article, { id: number }>({
    url: location.origin, getToken: () => `token of ${reader}`, reader, follow, limit: 3,
    onMessage: ({ data }) => {
      if (data.title === "faulty") throw new Error("the page's fault");
    },
  });
  return (
    <>
      <p id="state">{status.state}</p>
      <p id="gap">{gap?.after}</p>
      <p id="follow">{subscriptions.follow.join()}</p>
      <ul>{articles.map(({ key, data }) => <li key={key.id}>{data.title}</li>)}</ul>
    </>
  );
}

function Page() {
  const [follow, setFollow] = useState(["tech"]);
  const [shown, setShown] = useState(true);
  const [reader, setReader] = useState("ann");
  Object.assign(window, { setFollow, setShown, setReader });
  return shown ? <News follow={follow} reader={reader} /> : <p>nothing</p>;
}

createRoot(document.getElementById("root")!).render(<StrictMode><Page /></StrictMode>);

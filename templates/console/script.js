// Times in the reader's own zone, with the exact one at hand, and pages that are kept up to date. Without script the pages say UTC,
// and are as they were when they were loaded.
"use strict";

const near = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

function localize(root) {
  for (const element of root.querySelectorAll("time[datetime]")) {
    const moment = new Date(element.dateTime);
    if (Number.isNaN(moment.getTime())) continue;
    element.title = element.dateTime;
    element.textContent = near.format(moment);
  }
}

// Asks for this page again, and takes over the parts that are live; what is being used stays as it is.
async function refresh() {
  const answer = await fetch(location.href, { headers: { "x-loginsync-live": "1" } });
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const region of document.querySelectorAll("[data-live]")) {
    const next = fresh.getElementById(region.id);
    if (!next || region.contains(document.activeElement) || region.contains(getSelection()?.anchorNode ?? null)) continue;
    const open = [...region.querySelectorAll("details")].map((details) => details.open);
    localize(next);
    region.replaceChildren(...document.importNode(next, true).childNodes);
    region.querySelectorAll("details").forEach((details, at) => { details.open = open[at] ?? false; });
  }
}

// A stream while the page is seen, and at most one question in two seconds.
function follow() {
  let source = null, waiting = false;
  const changed = () => {
    if (waiting) return;
    waiting = true;
    setTimeout(() => { waiting = false; refresh().catch(() => {}); }, 2000);
  };
  const look = () => {
    if (document.hidden) {
      source?.close();
      source = null;
    } else if (!source) {
      source = new EventSource("/console/live");
      source.addEventListener("changed", changed);
      source.addEventListener("ended", () => { source.close(); });
      changed();
    }
  };
  document.addEventListener("visibilitychange", look);
  look();
}

localize(document);
if (document.querySelector("[data-live]")) follow();

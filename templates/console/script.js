// Times in the reader's own zone, with the exact one at hand. Without script the pages say UTC.
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

localize(document);

// An app without a login: it says what it hears of the person, on every page.

import express from "express";
import { identityHeaders } from "./app.js";

export function createPlainApp() {
  const app = express();
  app.disable("x-powered-by");
  app.get("/form", (req, res) => res.type("html").send('<form method="post" action="/posted"><input name="text" value="what a person wrote"></form>'));
  app.use((req, res) => {
    res.json({ address: req.originalUrl, identity: identityHeaders(req), cookies: req.headers.cookie ?? "" });
  });
  return app;
}

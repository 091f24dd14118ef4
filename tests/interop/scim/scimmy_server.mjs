// scimmy with users and groups in memory: usage scimmy.mjs PORT TOKEN, with scimmy, scimmy-routers and express beside it.
import express from "express";
import SCIMMY from "scimmy";
import SCIMMYRouters from "scimmy-routers";

const [port, token] = process.argv.slice(2);
let last = 0;

function keep(resource, unique) {
  const table = new Map();
  const all = () => [...table.values()];
  SCIMMY.Resources.declare(resource)
    .ingress((instance, data) => {
      const id = instance.id ?? String(++last);
      if (all().some((other) => other.id !== id && other[unique] === data[unique])) {
        throw new SCIMMY.Types.Error(409, "uniqueness", `${unique} is taken`);
      }
      if (instance.id && !table.has(id)) throw new SCIMMY.Types.Error(404, null, "no such resource");
      const kept = { ...data, id };
      table.set(id, kept);
      return kept;
    })
    .egress((instance) => {
      if (!instance.id) return all();
      if (!table.has(instance.id)) throw new SCIMMY.Types.Error(404, null, "no such resource");
      return table.get(instance.id);
    })
    .degress((instance) => {
      if (!table.delete(instance.id)) throw new SCIMMY.Types.Error(404, null, "no such resource");
    });
}

keep(SCIMMY.Resources.User, "userName");
keep(SCIMMY.Resources.Group, "displayName");
const handler = (request) => {
  if (request.header("authorization") !== `Bearer ${token}`) throw new Error("not this token");
  return "loginsync";
};
express()
  .use("/scim/v2", new SCIMMYRouters({ type: "bearer", handler }))
  .listen(Number(port), "127.0.0.1");

// The sidecar as its operator sees it: a process, its health page, and its commands.

import { execFile, spawn } from "node:child_process";
import { openSync, closeSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

export class Sidecar {
  #process = null;

  constructor({ binary, config, directory, adminUrl, logFile }) {
    Object.assign(this, { binary, config, directory, adminUrl, logFile });
  }

  async start() {
    const log = openSync(this.logFile, "a");
    this.#process = spawn(this.binary, ["serve", "--config", this.config], {
      cwd: this.directory,
      stdio: ["ignore", log, log],
    });
    closeSync(log);
    let failure = null;
    this.#process.once("error", (error) => { failure = error; });
    const deadline = Date.now() + 30_000;
    while (Date.now() < deadline) {
      if (failure) throw failure;
      if (this.#process.exitCode !== null) throw new Error(`the sidecar ended with ${this.#process.exitCode}; see ${this.logFile}`);
      const ready = await fetch(`${this.adminUrl}/readyz`).then((answer) => answer.status === 200, () => false);
      if (ready) return;
      await sleep(100);
    }
    throw new Error(`the sidecar was not ready within 30 seconds; see ${this.logFile}`);
  }

  // Reads the configuration again.
  async reload() {
    this.#process.kill("SIGHUP");
    await sleep(300);
  }

  async stop() {
    const process = this.#process;
    if (!process || process.exitCode !== null || process.signalCode !== null) return;
    const ended = new Promise((resolve) => process.once("exit", resolve));
    process.kill("SIGTERM");
    await Promise.race([ended, sleep(5_000, undefined, { ref: false })]);
    if (process.exitCode === null && process.signalCode === null) process.kill("SIGKILL");
  }

  async version() {
    return (await this.#run(["--version"])).stdout.trim();
  }

  async check() {
    return this.#run(["check", "--config", this.config]);
  }

  async verifyAudit() {
    return this.#run(["audit", "verify", "--config", this.config]);
  }

  async audit() {
    return JSON.parse((await this.#run(["audit", "list", "--limit", "1000", "--json", "--config", this.config])).stdout);
  }

  async user(act, namespace, subject) {
    const { status, stderr } = await this.#run(["user", act, "--config", this.config, namespace, subject]);
    if (status !== 0) throw new Error(`loginsync user ${act} ended with ${status}: ${stderr.trim()}`);
  }

  // The subjects of everybody who is known.
  async people() {
    const { status, stdout, stderr } = await this.#run(["user", "list", "--config", this.config, "--json"]);
    if (status !== 0) throw new Error(`loginsync user list ended with ${status}: ${stderr.trim()}`);
    return new Set(stdout.match(/"subject": *"[^"]*"/g)?.map((each) => JSON.parse(`{${each}}`).subject));
  }

  // What a person holds now: { groups, roles }, sorted names. The one place that knows how this command is called and answers.
  async memberships(namespace, subject) {
    const { status, stdout, stderr } = await this.#run(["user", "show", "--config", this.config, "--json", namespace, subject]);
    if (status !== 0) {
      if (/not found|no such user|unknown user|no user/i.test(stderr)) return { groups: [], roles: [] };
      throw new Error(`loginsync user show ended with ${status}: ${stderr.trim()}`);
    }
    const user = JSON.parse(stdout);
    const names = (list) => [...new Set((list ?? []).map((each) => (typeof each === "string" ? each : each.name)))].sort();
    return { groups: names(user.groups), roles: names(user.roles) };
  }

  #run(args) {
    return new Promise((resolve, reject) => {
      execFile(this.binary, args, { cwd: this.directory, timeout: 20_000 }, (error, stdout, stderr) => {
        if (error && typeof error.code !== "number") reject(error);
        else resolve({ status: error ? error.code : 0, stdout, stderr });
      });
    });
  }
}

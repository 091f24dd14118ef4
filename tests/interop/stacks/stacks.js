// The real stacks: how each is started, with which files. What starts listens on loopback, in a process group of its own.

import { spawn } from "node:child_process";
import { appendFileSync, closeSync, mkdirSync, openSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { send } from "./wire.js";

const START_LIMIT = 30_000; // milliseconds
const THREADS = 8; // as many requests as are sent at once

// A command for a stack; where its command needs a file, it is written into `directory` first.
const COMMANDS = {
  "gunicorn + Flask": ({ venv, apps, port }) =>
    [`${venv}/bin/gunicorn`, "--chdir", apps, "--bind", `127.0.0.1:${port}`, "--threads", THREADS, "--no-control-socket", "app:app"],
  "uWSGI + Flask": ({ venv, apps, port }) =>
    [`${venv}/bin/uwsgi`, "--http-socket", `127.0.0.1:${port}`, "--chdir", apps, "--module", "app:app", "--venv", venv, "--master",
      "--threads", THREADS, "--enable-threads", "--buffer-size", 65536, "--die-on-term", "--need-app"],
  "unicorn + Rack": ({ apps, directory, port }) => {
    const config = join(directory, "unicorn.rb");
    writeFileSync(config, `worker_processes 4\nlisten "127.0.0.1:${port}"\n`);
    return ["unicorn", "-E", "none", "-c", config, `${apps}/config.ru`];
  },
  "puma + Rack": ({ apps, port }) => ["puma", "-e", "production", "-t", `${THREADS}:${THREADS}`, "-b", `tcp://127.0.0.1:${port}`, `${apps}/config.ru`],
  // Some requests that it gets directly crash it ("pure virtual method called"), so it is started again as a supervisor would.
  "thin + Rack": ({ apps, port }) => ["bash", "-c", `trap 'kill $thin; exit' TERM INT
    while :; do
      thin -e production -a 127.0.0.1 -p ${port} -R ${apps}/config.ru --threaded start & thin=$!
      wait $thin
    done`],
  "php -S + HttpFoundation": ({ apps, port }) => ["php", "-S", `127.0.0.1:${port}`, "-t", `${apps}/php`],
  "nginx, php-fpm + HttpFoundation": ({ apps, directory, port, fpm }) => {
    writeFileSync(join(directory, "fpm.conf"), `[global]\nerror_log = ${directory}/fpm.log\n[app]\nlisten = ${directory}/fpm.sock\n`
      + `${process.getuid() === 0 ? "user = root\n" : ""}pm = static\npm.max_children = 4\nclear_env = no\n`);
    writeFileSync(join(directory, "nginx.conf"), nginx(apps, directory, port));
    // php-fpm makes a process group of its own, so that it has to be told by its parent.
    const start = `${fpm} ${process.getuid() === 0 ? "-R " : ""}-F -y ${directory}/fpm.conf & fpm=$!
      nginx -p ${directory} -c ${directory}/nginx.conf -g 'daemon off;' & nginx=$!
      trap 'kill $fpm $nginx' TERM; wait; wait`;
    return ["bash", "-c", start];
  },
  "Express": ({ apps }) => ["node", `${apps}/express.js`],
  "Tomcat": ({ jars, classes }) => ["java", "-Xmx256m", "-cp", `${classes}:${jars}/*`, "App", "tomcat"],
  "Jetty": ({ jars, classes }) => ["java", "-Xmx256m", "-cp", `${classes}:${jars}/*`, "App", "jetty"],
};

export const STACKS = Object.keys(COMMANDS);

const nginx = (apps, directory, port) => `
${process.getuid() === 0 ? "user root;" : ""}
pid ${directory}/nginx.pid;
error_log ${directory}/nginx-error.log;
events { worker_connections 256; }
http {
  access_log off;
  client_body_temp_path ${directory}/nginx-body; proxy_temp_path ${directory}/nginx-proxy; fastcgi_temp_path ${directory}/nginx-fastcgi;
  uwsgi_temp_path ${directory}/nginx-uwsgi; scgi_temp_path ${directory}/nginx-scgi;
  server {
    listen 127.0.0.1:${port};
    root ${apps}/php;
    location / { try_files $uri /index.php$is_args$args; }
    location ~ \\.php(/|$) {
      fastcgi_split_path_info ^(.+?\\.php)(/.*)$;
      include /etc/nginx/fastcgi_params;
      fastcgi_param SCRIPT_FILENAME ${apps}/php/index.php;
      fastcgi_param PATH_INFO $fastcgi_path_info;
      fastcgi_pass unix:${directory}/fpm.sock;
    }
  }
}
`;

// Starts a stack's app, and waits until it answers. `places` says where its files are, `environment` what its app is told.
export async function start(stack, places, environment) {
  mkdirSync(places.directory, { recursive: true });
  const [command, ...args] = COMMANDS[stack](places).map(String);
  const log = openSync(join(places.directory, "app.log"), "a");
  const child = spawn(command, args, {
    cwd: places.directory, detached: true, stdio: ["ignore", log, log],
    env: { ...process.env, PHP_CLI_SERVER_WORKERS: String(THREADS), ...environment },
  });
  closeSync(log);
  // stacks.sh ends this group, should we be ended before we do.
  appendFileSync(process.env.STACKS_GROUPS, `${child.pid}\n`);
  let failure = null;
  child.once("error", (error) => { failure = error; });
  const stop = async () => {
    const signal = (name) => { try { process.kill(-child.pid, name); return true; } catch { return false; } };
    if (child.pid === undefined || !signal("SIGTERM")) return;
    for (let round = 0; round < 30 && signal(0); round++) await sleep(100);
    signal("SIGKILL");
  };
  const deadline = Date.now() + START_LIMIT;
  while (Date.now() < deadline && !failure && child.exitCode === null) {
    if ((await send(places.port, "GET / HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\n\r\n")).status === 200) return { stop };
    await sleep(100);
  }
  await stop();
  throw new Error(`${stack} does not answer${failure ? `: ${failure.message}` : ""}; see ${places.directory}/app.log`);
}

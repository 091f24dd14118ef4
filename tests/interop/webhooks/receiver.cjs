// A receiver in Node: the app's copy of who is in which group. Prints a line of JSON for each message that it believes.
'use strict';
const http = require('node:http');
const { Webhook } = require('standardwebhooks');

const webhook = new Webhook(process.argv[3]);
const seen = new Map();

http
  .createServer((request, response) => {
    const parts = [];
    request.on('data', (part) => parts.push(part));
    request.on('end', () => {
      let message;
      try {
        message = webhook.verify(Buffer.concat(parts).toString('utf8'), request.headers);
      } catch {
        response.writeHead(401).end();
        return;
      }
      const user = message.user;
      // A message that is older than what is known already is taken, and changes nothing.
      if (user && message.version > (seen.get(user.id) ?? 0)) {
        seen.set(user.id, message.version);
        console.log(JSON.stringify(message));
      }
      response.writeHead(204).end();
    });
  })
  .listen(Number(process.argv[2]), '127.0.0.1');

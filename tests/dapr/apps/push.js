// A DaprServer; argv: HTTP or GRPC, and the prefix of its topics.
"use strict";

const { CommunicationProtocolEnum, DaprServer, LogLevel } = require("@dapr/dapr");
const { say, take } = require("./report.js");

const [protocol, prefix] = process.argv.slice(2);
const communicationProtocol = CommunicationProtocolEnum[protocol];
const daprPort = protocol === "HTTP" ? process.env.DAPR_HTTP_PORT : process.env.DAPR_GRPC_PORT;
const logger = { level: LogLevel.Error };
const server = new DaprServer({
  serverHost: "127.0.0.1",
  serverPort: process.env.APP_PORT,
  communicationProtocol,
  logger,
  clientOptions: { daprPort, communicationProtocol, logger },
});

const TOPICS = {
  orders: {},
  letters: { deadLetterTopic: `${prefix}-dead` },
  dead: {},
  raw: { metadata: { rawPayload: "true" } },
  bulk: null,
};

async function main() {
  for (const [topic, options] of Object.entries(TOPICS)) {
    const callback = async (data, headers) => take(topic, data, headers);
    const name = `${prefix}-${topic}`;
    if (options === null) {
      await server.pubsub.subscribeBulk("pubsub", name, callback, { maxAwaitDurationMs: 50 });
    } else {
      await server.pubsub.subscribeWithOptions("pubsub", name, { ...options, callback });
    }
  }
  await server.start();
  say({ ready: true });
}

main();

// Publishes what it is told on stdin; argv: HTTP or GRPC, and the port.
"use strict";

const readline = require("node:readline");
const { CommunicationProtocolEnum, DaprClient, LogLevel } = require("@dapr/dapr");
const { say } = require("./report.js");

const [protocol, daprPort] = process.argv.slice(2);
const client = new DaprClient({
  daprPort,
  communicationProtocol: CommunicationProtocolEnum[protocol],
  logger: { level: LogLevel.Error, service: { error() {} } },
});

function value(data) {
  return data && data.base64 ? Buffer.from(data.base64, "base64") : data;
}

function refused(error) {
  return { message: String(error.error?.message ?? error.message ?? error) };
}

async function call(order) {
  const component = order.component ?? "pubsub";
  if (order.do === "metadata") {
    return { id: (await client.metadata.get()).id };
  }
  if (order.do === "bulk") {
    const data = order.data.map(value);
    const answer = await client.pubsub.publishBulk(component, order.topic, data, order.metadata);
    return {
      failed: Object.fromEntries(
        answer.failedMessages.map((one) => [one.message.entryID, one.error.message]),
      ),
    };
  }
  const answer = await client.pubsub.publish(component, order.topic, value(order.data), {
    contentType: order.content_type,
    metadata: order.metadata,
  });
  return answer.error ? refused(answer.error) : {};
}

async function main() {
  await client.start();
  say({ ready: true });
  for await (const line of readline.createInterface({ input: process.stdin })) {
    say({ done: await call(JSON.parse(line)).catch(refused) });
  }
  await client.stop();
}

main();

// Node's http2: content is collected, then sent back with its length. It is over TLS where a certificate and its key are
// given.
import { readFileSync } from "node:fs";
import { createSecureServer, createServer } from "node:http2";

const [port, cert, key] = process.argv.slice(2);
const server = cert ? createSecureServer({ cert: readFileSync(cert), key: readFileSync(key) }) : createServer();
server.on("stream", (stream, headers) => {
  const parts = [];
  stream.on("data", (part) => parts.push(part));
  stream.on("end", () => {
    let content = parts.length === 1 ? parts[0] : Buffer.concat(parts);
    let type = headers["content-type"] ?? "application/octet-stream";
    if (!content.length) {
      const lines = [`${headers[":method"]} ${headers[":path"]} HTTP/2.0`, `host: ${headers[":authority"]}`];
      for (const name in headers) if (!name.startsWith(":")) lines.push(`${name}: ${headers[name]}`);
      content = lines.join("\r\n") + "\r\n\r\n";
      type = "text/plain";
    }
    stream.respond({ ":status": 200, "content-type": type, "content-length": Buffer.byteLength(content) });
    stream.end(content);
  });
});
server.listen({ port: Number(port), host: "127.0.0.1", backlog: 4096 });

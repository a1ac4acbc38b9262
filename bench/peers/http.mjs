// Node's http: content is collected, then sent back with its length.
import { createServer } from "node:http";

const server = createServer((request, response) => {
  const parts = [];
  request.on("data", (part) => parts.push(part));
  request.on("end", () => {
    let content = parts.length === 1 ? parts[0] : Buffer.concat(parts);
    let type = request.headers["content-type"] ?? "application/octet-stream";
    if (!content.length) {
      const lines = [`${request.method} ${request.url} HTTP/${request.httpVersion}`];
      for (let i = 0; i < request.rawHeaders.length; i += 2) lines.push(`${request.rawHeaders[i]}: ${request.rawHeaders[i + 1]}`);
      content = lines.join("\r\n") + "\r\n\r\n";
      type = "text/plain";
    }
    response.writeHead(200, { "Content-Type": type, "Content-Length": content.length });
    response.end(content);
  });
});
server.keepAliveTimeout = 75_000;
server.requestTimeout = 0;
server.listen({ port: Number(process.argv[2]), host: "127.0.0.1", backlog: 4096 });

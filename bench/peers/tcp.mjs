// TCP echo in Node.
import { createServer } from "node:net";

const where = process.argv[2];
createServer({ noDelay: true }, (socket) => {
  socket.on("error", () => socket.destroy());
  socket.pipe(socket);
}).listen(where.startsWith("/") ? { path: where } : { port: Number(where), host: "127.0.0.1", backlog: 4096 });

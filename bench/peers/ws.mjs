// WebSocket echo on Node's ws, which lies where the second argument says: Debian's is found by its own Node only.
import { createRequire } from "node:module";

const [port, folder] = process.argv.slice(2);
const { WebSocketServer } = createRequire(import.meta.url)(folder);
const server = new WebSocketServer({
  port: Number(port), host: "127.0.0.1", backlog: 4096, perMessageDeflate: false, skipUTF8Validation: true,
});
server.on("connection", (socket) => {
  socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary }));
  socket.on("error", () => socket.terminate());
});

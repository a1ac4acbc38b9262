// UDP echo in Node.
import { createSocket } from "node:dgram";

const socket = createSocket("udp4");
socket.on("message", (data, from) => socket.send(data, from.port, from.address));
socket.bind(Number(process.argv[2]), "127.0.0.1");

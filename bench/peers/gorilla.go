// WebSocket echo on Go's gorilla/websocket. Each connection has a buffer that it uses again: ReadMessage would make one
// for each message, and again each time that it grows.
package main

import (
	"bytes"
	"net/http"
	"os"

	"github.com/gorilla/websocket"
)

var upgrader = websocket.Upgrader{ReadBufferSize: 65536, WriteBufferSize: 65536}

func echo(w http.ResponseWriter, r *http.Request) {
	connection, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer connection.Close()
	var buffer bytes.Buffer
	for {
		kind, message, err := connection.NextReader()
		if err != nil {
			return
		}
		buffer.Reset()
		if _, err = buffer.ReadFrom(message); err != nil {
			return
		}
		if connection.WriteMessage(kind, buffer.Bytes()) != nil {
			return
		}
	}
}

func main() { panic(http.ListenAndServe("127.0.0.1:"+os.Args[1], http.HandlerFunc(echo))) }

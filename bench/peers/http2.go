// golang.org/x/net/http2, without TLS (h2c, by prior knowledge) or, where a certificate and its key are given, with it.
// Content is read whole before it is sent back, as in nethttp.go.
package main

import (
	"io"
	"net/http"
	"os"
	"strconv"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/h2c"
)

func echo(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength == 0 {
		w.Header().Set("Content-Type", "text/plain")
		io.WriteString(w, r.Method+" "+r.RequestURI+" "+r.Proto+"\r\nHost: "+r.Host+"\r\n")
		r.Header.Write(w)
		return
	}
	var content []byte
	if r.ContentLength > 0 {
		content = make([]byte, r.ContentLength)
		io.ReadFull(r.Body, content)
	} else {
		content, _ = io.ReadAll(r.Body)
	}
	w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
	w.Header().Set("Content-Length", strconv.Itoa(len(content)))
	w.Write(content)
}

func main() {
	server := &http.Server{Addr: "127.0.0.1:" + os.Args[1], Handler: http.HandlerFunc(echo)}
	settings := &http2.Server{}
	if len(os.Args) > 3 {
		if err := http2.ConfigureServer(server, settings); err != nil {
			panic(err)
		}
		panic(server.ListenAndServeTLS(os.Args[2], os.Args[3]))
	}
	server.Handler = h2c.NewHandler(server.Handler, settings)
	panic(server.ListenAndServe())
}

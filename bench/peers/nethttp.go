// Go's net/http. Content is read whole before it is sent back: once a response has begun, the server drops what has not
// been read of the request, so io.Copy(w, r.Body) is a short echo of more than 512 bytes (go1.19). It is over TLS where a
// certificate and its key are given too.
package main

import (
	"io"
	"net/http"
	"os"
	"strconv"
)

func echo(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength == 0 {
		w.Header().Set("Content-Type", "text/plain")
		io.WriteString(w, r.Method+" "+r.RequestURI+" "+r.Proto+"\r\nHost: "+r.Host+"\r\n")
		r.Header.Write(w)
		return
	}
	w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
	var content []byte
	if r.ContentLength > 512 {
		content = make([]byte, r.ContentLength)
		io.ReadFull(r.Body, content)
	} else if r.ContentLength < 0 {
		content, _ = io.ReadAll(r.Body)
	} else {
		w.Header().Set("Content-Length", strconv.FormatInt(r.ContentLength, 10))
		io.Copy(w, r.Body)
		return
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(content)))
	w.Write(content)
}

func main() {
	address := "127.0.0.1:" + os.Args[1]
	if len(os.Args) > 3 {
		panic(http.ListenAndServeTLS(address, os.Args[2], os.Args[3], http.HandlerFunc(echo)))
	}
	panic(http.ListenAndServe(address, http.HandlerFunc(echo)))
}

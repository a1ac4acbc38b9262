// Go's net/http, as a handler of a few lines has it: content up to 64 KiB copied, more read whole.
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
	if r.ContentLength < 0 || r.ContentLength > 65536 {
		content, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Length", strconv.Itoa(len(content)))
		w.Write(content)
		return
	}
	w.Header().Set("Content-Length", strconv.FormatInt(r.ContentLength, 10))
	io.Copy(w, r.Body)
}

func main() { panic(http.ListenAndServe("127.0.0.1:"+os.Args[1], http.HandlerFunc(echo))) }

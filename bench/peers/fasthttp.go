// Go's fasthttp; over TLS where a certificate and its key are given too.
package main

import (
	"os"

	"github.com/valyala/fasthttp"
)

func echo(c *fasthttp.RequestCtx) {
	if content := c.PostBody(); len(content) > 0 {
		c.SetContentTypeBytes(c.Request.Header.ContentType())
		c.SetBody(content)
	} else {
		c.SetContentType("text/plain")
		c.SetBody(c.Request.Header.Header())
	}
}

func main() {
	server, address := &fasthttp.Server{MaxRequestBodySize: 1 << 30, Handler: echo}, "127.0.0.1:"+os.Args[1]
	if len(os.Args) > 3 {
		panic(server.ListenAndServeTLS(address, os.Args[2], os.Args[3]))
	}
	panic(server.ListenAndServe(address))
}

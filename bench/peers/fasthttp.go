// Go's fasthttp.
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
	panic((&fasthttp.Server{MaxRequestBodySize: 1 << 30, Handler: echo}).ListenAndServe("127.0.0.1:" + os.Args[1]))
}

// UDP echo in Go, one goroutine for all.
package main

import (
	"net"
	"net/netip"
	"os"
)

func main() {
	address := netip.MustParseAddrPort("127.0.0.1:" + os.Args[1])
	socket, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(address))
	if err != nil {
		panic(err)
	}
	buffer := make([]byte, 65536)
	for {
		n, from, err := socket.ReadFromUDPAddrPort(buffer)
		if err != nil {
			panic(err)
		}
		socket.WriteToUDPAddrPort(buffer[:n], from) // what can't be sent is lost, as UDP has it
	}
}

package testenv

import (
	"fmt"
	"math/rand/v2"
	"net"
)

// FreePort returns a port of a host on which nothing listens now. It is below those that the system
// gives to connections, and to listeners that ask for none: a server that is killed and started
// again finds it free.
func FreePort(host string) (int, error) {
	for try := 0; ; try++ {
		port := 20_000 + rand.IntN(12_000)
		l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", host, port))
		switch {
		case err == nil:
			return port, l.Close()
		case try == 100:
			return 0, err
		}
	}
}

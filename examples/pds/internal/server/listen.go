package server

import (
	"errors"
	"fmt"
	"net"
	"syscall"
)

// ListenError: an address cannot be listened on.
type ListenError struct {
	Variables string // those that name the address
	Address   string
	Err       error
}

func (e *ListenError) Unwrap() error { return e.Err }

// Error says which variables to change, and what may be the cause.
func (e *ListenError) Error() string {
	_, port, _ := net.SplitHostPort(e.Address)
	var cause *net.OpError
	why := e.Err
	if errors.As(e.Err, &cause) {
		why = cause.Err // without the address, which is said already
	}
	text := fmt.Sprintf("%s: cannot listen on %s: %v", e.Variables, e.Address, why)
	switch {
	case errors.Is(e.Err, syscall.EADDRINUSE):
		return text + fmt.Sprintf(". Another program has the port (\"ss -ltnp sport = :%s\" tells which, as root): stop it, or set another one", port)
	case errors.Is(e.Err, syscall.EACCES):
		return text + ". Ports below 1024 need the capability CAP_NET_BIND_SERVICE, which the service file gives: set a higher one, or run the server as that service"
	case errors.Is(e.Err, syscall.EADDRNOTAVAIL):
		return text + ". No network interface of this machine has the address (\"ip address\" lists them)"
	}
	return text
}

// listen listens on an address that variables of the configuration name.
func listen(variables, address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, &ListenError{variables, address, err}
	}
	return l, nil
}

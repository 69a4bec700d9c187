package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"time"
)

// childVariable is the environment variable that makes a process the program itself.
const childVariable = "PDSKIT_AGENTS_CHILD"

// child is the program in a process of its own, which can be killed.
type child struct {
	cmd   *exec.Cmd
	stdin io.Closer
	ready chan struct{} // is closed when it serves
	ended chan struct{} // is closed when it has ended
	err   error         // then
}

// start starts this program again as a child.
func start(o options, errors io.Writer) (*child, error) {
	args := []string{"-data", o.data, "-listen", o.listen, "-agents", fmt.Sprint(o.agents), "-brain", o.brain,
		"-every", o.every.String(), "-pace", o.pace.String(), "-lease", o.lease.String(), fmt.Sprintf("-finish=%v", o.finish)}
	c := &child{cmd: exec.Command(self(), args...), ready: make(chan struct{}), ended: make(chan struct{})}
	c.cmd.Env = append(os.Environ(), childVariable+"=1")
	c.cmd.Stderr = errors
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if strings.HasPrefix(lines.Text(), "ready") {
				close(c.ready)
				break
			}
		}
		io.Copy(io.Discard, out)
		c.err = c.cmd.Wait()
		close(c.ended)
	}()
	return c, nil
}

// kill ends the child as a power failure would.
func (c *child) kill() {
	c.cmd.Process.Kill()
	<-c.ended
}

// end asks the child to end.
func (c *child) end() error {
	c.stdin.Close()
	<-c.ended
	return c.err
}

func self() string {
	path, err := os.Executable()
	if err != nil {
		return os.Args[0]
	}
	return path
}

// supervise runs the program in a child, and starts it again when it was killed.
func supervise(ctx context.Context, o options) error {
	var err error
	if o.listen, err = address(o.listen); err != nil {
		return err
	}
	fmt.Printf("Agents: http://%s\nTheir data is in %s. End with Ctrl-C.\n", o.listen, o.data)
	for {
		c, err := start(o, os.Stderr)
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return c.end()
		case <-c.ended:
		}
		var exit *exec.ExitError
		if !errors.As(c.err, &exit) || exit.Exited() {
			return c.err // it has ended by itself
		}
		fmt.Println("The process was killed. It starts again.")
		time.Sleep(500 * time.Millisecond)
	}
}

// address returns the address to listen on, of this machine alone, with a port that is chosen now
// if it is 0.
func address(text string) (string, error) {
	hostname, _, err := net.SplitHostPort(text)
	if err != nil {
		return "", err
	}
	if ip := net.ParseIP(hostname); hostname != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return "", fmt.Errorf("-listen %s: there is no login, so only addresses of this machine are allowed", text)
	}
	l, err := net.Listen("tcp", text)
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

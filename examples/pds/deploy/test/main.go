// Test follows the guide: it takes the commands out of the pages of examples/pds/guide and runs
// them, in order, on machines of its own.
//
//	go run ./examples/pds/deploy/test [-v] [-build FOLDER]
//
// Needs root on Linux with overlay file systems, and the programs ip, curl, dig, Caddy and nginx
// (on Debian: iproute2, curl, bind9-dnsutils, caddy, nginx). What is missing is named, and nothing
// is done. Pebble and age are built from their modules. Nothing on the machine is changed, and
// nothing leaves it.
//
// # What is real
//
// Four machines, each with namespaces of its own for network, files, processes and host name, and a
// bridge between them. Below is an overlay of this machine's files, without what it has of a PDS.
// Packages are installed by dpkg, users made by adduser and useradd, programs run as users with
// their capabilities. The first machine has the Debian package and speaks TLS itself, the second
// the program of a release and Caddy, the third is built from source, with nginx; the fourth takes
// the place of the first one, which has died. Certificates come by ACME, with its challenges on
// ports 80 and 443. Servers find each other by DNS, DIDs in a directory, records by the relay of
// examples/relay.
//
// # What is not
//
// DNS, the directory, the AppView, the mail server and the addresses of all of them are this
// program's own. There is no systemd: "systemctl" and "journalctl" lead to a small runner, which
// takes from unit files the command, user, environment, capabilities, state folder, umask,
// readiness and restarts, and leaves alone limits of memory, sandboxing and timers.
// ("systemd-analyze verify" is a test of examples/pds.) nginx's certificate is signed by an
// authority of the test, as no public one gives wildcards without access to a DNS provider.
// Containers are not run.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

// stageVariable says what a copy of this program is.
const stageVariable = "PDSKIT_GUIDE_STAGE"

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	switch base := filepath.Base(os.Args[0]); base {
	case "systemctl", "journalctl":
		os.Exit(ask(os.Args))
	}
	if stage := os.Getenv(stageVariable); stage != "" {
		return runStage(stage, os.Args[1:])
	}
	verbose := flag.Bool("v", false, "print what commands print")
	built := flag.String("build", "", "`folder` for what is built first; what is there is used again")
	root := flag.String("root", ".", "the root of the checkout")
	flag.Parse()
	missing, err := Follow(*root, *built, *verbose)
	if missing != "" {
		fmt.Println("skipped:", missing)
	}
	return err
}

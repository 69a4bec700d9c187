package cli

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/pdskit/pdskit/examples/pds/internal/config"
	"github.com/pdskit/pdskit/examples/pds/internal/server"
)

// banner says what was started and what to try. What it says of a development server are its last lines:
// how to post, and where to look.
func banner(out io.Writer, cfg *config.Config, srv *server.Server) error {
	data := absolute(cfg.DataDirectory)
	kind := "Personal Data Server"
	if cfg.DevMode {
		kind = "development Personal Data Server"
	}
	fmt.Fprintf(out, "pdskit %s: a %s at %s\n", server.Version, kind, srv.URL())
	fmt.Fprintf(out, "  data        %s\n", data)
	plc, local := srv.PLC()
	if local {
		plc += " (in this process)"
	}
	fmt.Fprintf(out, "  PLC         %s\n", plc)
	fmt.Fprintf(out, "  handles     *%s\n", strings.Join(cfg.HandleDomains, ", *"))
	fmt.Fprintf(out, "  pages       %s/account\n", srv.URL())
	if cfg.AdminPages {
		fmt.Fprintf(out, "              %s/admin for the administrator\n", srv.URL())
	}
	err := showPassword(out, cfg, srv.Secrets(), filepath.Join(data, "secrets.json"))
	if cfg.InviteRequired {
		fmt.Fprintf(out, "\nNew accounts need an invite code, but for those of \"pds account create EMAIL HANDLE\". Make a code:\n"+
			"  pds invite create\nor\n  curl -u admin:PASSWORD -H 'Content-Type: application/json' -d '{\"useCount\":1}' %s/xrpc/com.atproto.server.createInviteCode\n", srv.URL())
		return err
	}
	fmt.Fprintf(out, "\nOpen %s in a browser: it shows what is posted, and how to post. Or try, in another terminal:\n", srv.URL())
	for _, c := range srv.FirstCommands() {
		fmt.Fprintf(out, "\n# %s\n%s\n", c.What, c.Line)
	}
	return err
}

// showPassword shows the administrator's password where that is safe, and until it was shown once.
func showPassword(out io.Writer, cfg *config.Config, secrets *config.Secrets, file string) error {
	switch {
	case cfg.AdminPassword != "":
		return nil // the operator has set it
	case !secrets.NewPassword || !cfg.DevMode: // what a service prints is kept for all to read
		fmt.Fprintf(out, "  admin       password in %s\n", file)
		return nil
	}
	if _, err := fmt.Fprintf(out, "  admin       password %s (shown only now; kept in %s)\n", secrets.AdminPassword, file); err != nil {
		return err
	}
	return cfg.PasswordShown()
}

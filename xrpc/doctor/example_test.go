package doctor_test

import (
	"context"
	"fmt"

	"github.com/pdskit/pdskit/xrpc/doctor"
)

// A host adds checks of its own to those of this package.
func Example() {
	report := doctor.Run(context.Background(), []doctor.Check{
		{Name: "space", Run: func(context.Context) []doctor.Finding {
			return []doctor.Finding{doctor.Warn("delete old backups", "2 GiB are left").About("/var/lib/pds")}
		}},
	})
	for _, f := range report.Findings {
		fmt.Printf("%s: %s of %s: %s: %s\n", f.Level, f.Check, f.Subject, f.Text, f.Remedy)
	}
	// Output: warning: space of /var/lib/pds: 2 GiB are left: delete old backups
}

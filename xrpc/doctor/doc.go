// Package doctor checks a server from outside and from inside, and reports problems with their
// remedies. It checks that the server's name leads to it, that its certificate is valid, that its
// event stream and its clients' addresses get through the reverse proxy, that its clock is right,
// that its accounts' identities lead to it, and that relays and an AppView know it.
//
// A [Check] is a small value with a name. A host chooses from those of this package, and adds its
// own:
//
//	t := doctor.Target{URL: "https://pds.example.com"}
//	report := doctor.Run(ctx, []doctor.Check{
//		t.Names(".pds.example.com"), t.Certificate(), t.Stream(),
//		{Name: "space", Run: func(context.Context) []doctor.Finding { … }},
//	})
//	for _, f := range report.Findings {
//		fmt.Println(f.Level, f.Check, f.Text, f.Remedy)
//	}
//
// A command, a page and metrics can share a list: a [Doctor] runs it from time to time and on
// request, and keeps the last report.
//
// # Limits
//
// Checks run concurrently, each with its own timeout ([Check].Timeout); exceeding it is reported as
// a problem, and so is a panic. Responses of other servers are bounded in size. Their texts are
// shown truncated and on one line.
package doctor

// Package doctor looks at a server from outside and from inside, and says what is wrong and how it
// is mended: whether its name leads to it, its certificate is good, its event stream and the
// addresses of its clients get through the proxy in front, its clock is right, its accounts'
// identities lead to it, and relays and an AppView know it.
//
// A [Check] is a small value with a name. A host takes those of this package that it wants, and
// adds its own:
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
// A command, a page and metrics can share a list: a [Doctor] runs one from time to time and when it
// is asked, and keeps the last report.
//
// # Limits
//
// Checks run at the same time, each in a time of its own ([Check].Timeout), and what it does not
// say in that time is a problem. A check that panics is one too. Answers of others are bounded in
// size, and what they say is shown cut off and on one line.
package doctor

package mail_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/pdskit/pdskit/xrpc/mail"
)

// Without a server, messages are written to a log.
func Example() {
	log := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	sender, err := mail.New(mail.Config{Log: log})
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	if err := sender.Send(ctx, mail.Message{To: "alice@example.com", Subject: "Your code", Text: "AAAAA-BBBBB"}); err != nil {
		panic(err)
	}
	err = sender.Send(ctx, mail.Message{To: "alice@example.com\nBcc: mallory@example.com", Subject: "Your code"})
	fmt.Println(errors.Is(err, mail.ErrAddress))
	// Output:
	// level=INFO msg="mail is not configured: this message was not sent" to=alice@example.com subject="Your code" text=AAAAA-BBBBB
	// true
}

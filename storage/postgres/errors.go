package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/pdskit/pdskit/storage"
)

var errClosed = errors.New("postgres: database is closed")

// State codes of PostgreSQL, https://www.postgresql.org/docs/current/errcodes-appendix.html.
const (
	codeCheck         = "23514" // no partition for a row, too
	codeUnique        = "23505"
	codeSerialization = "40001"
	codeDeadlock      = "40P01"
	codeLockTimeout   = "55P03"
	codeCanceled      = "57014" // statement_timeout, too
)

// code returns the state code of an error that the server has sent, or "".
func code(err error) string {
	if e := (*pgconn.PgError)(nil); errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// refused reports whether the server has refused a statement, and with it the transaction, which
// so was not committed. Any other error, also one with which the server ended the connection, says
// nothing about a commit that was under way.
func refused(err error) bool {
	e := (*pgconn.PgError)(nil)
	return errors.As(err, &e) && (e.SeverityUnlocalized == "ERROR" || e.SeverityUnlocalized == "" && e.Severity == "ERROR")
}

// transient reports whether an error may not occur when the same is tried again: the connection or
// the server was lost, or another transaction was in the way.
func transient(err error) bool {
	switch c := code(err); c {
	case "":
		return err != nil && !errors.Is(err, context.Canceled) && !hasContractMeaning(err)
	case codeSerialization, codeDeadlock, codeLockTimeout, codeCanceled, "25P03", "25P04", "25006", "53300":
		return true
	default:
		return strings.HasPrefix(c, "57P") || strings.HasPrefix(c, "08")
	}
}

// blocked reports whether another transaction may have been in the way for too long.
func blocked(err error) bool {
	c := code(err)
	return c == codeLockTimeout || c == codeCanceled
}

// hasContractMeaning reports whether an error has a meaning in the contract, or is our own.
func hasContractMeaning(err error) bool {
	for _, e := range []error{storage.ErrNotFound, storage.ErrExists, storage.ErrConflict, storage.ErrCorrupt, storage.ErrBusy, storage.ErrFull, storage.ErrMoved, errUnwatched, errClosed} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// fail gives an error the meaning that the contract has for it.
func fail(ctx context.Context, err error) error {
	switch c := code(err); {
	case err == nil:
		return nil
	case ctx.Err() != nil && !hasContractMeaning(err):
		return ctx.Err()
	case c == "53100":
		return fmt.Errorf("%w: %w", storage.ErrFull, err)
	case c == codeMoved:
		return storage.ErrMoved
	case c == "XX001" || c == "XX002":
		return fmt.Errorf("%w: %w", storage.ErrCorrupt, err)
	}
	return err
}

// busy is the error of a call that has done nothing, having tried for long enough.
func busy(err error) error {
	if hasContractMeaning(err) {
		return err
	}
	return fmt.Errorf("%w: %w", storage.ErrBusy, err)
}

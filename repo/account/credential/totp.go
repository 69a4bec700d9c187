package credential

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/pdskit/pdskit/internal/qr"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/repo"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/storage"
)

// Parameters of authenticator apps (RFC 6238). They are the usual ones: many apps ignore other
// values in the URI.
const (
	totpPeriod    = 30 * time.Second
	totpDigits    = 6
	totpSecretLen = 20 // bytes
	// totpWindow is how many periods the app's clock may be off.
	totpWindow = 1
)

// enrolmentLife is how long an enrolment waits for its first code.
const enrolmentLife = 15 * time.Minute

// appFactor is the authenticator app. Its secret lies at secretKey.
type appFactor struct {
	Factor
	// Step is the last period whose code was used. Codes of that period and of earlier ones are
	// void.
	Step int64 `json:"step"`
}

// appSecret is what is stored, sealed, of an app's secret.
type appSecret struct {
	ID     string `json:"id"` // of the Factor
	Secret []byte `json:"secret"`
	// Until and Credentials belong to an enrolment: when it expires, and the value of the account's
	// counter under which it began.
	Until       time.Time `json:"until,omitzero"`
	Credentials int64     `json:"credentials,omitempty"`
}

// totpCode is the code of a period (RFC 4226 §5.3), with that many digits.
func totpCode(secret []byte, step int64, digits int) string {
	mac := hmac.New(sha1.New, secret)
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(step))
	mac.Write(b[:])
	sum := mac.Sum(nil)
	at := sum[len(sum)-1] & 15
	n := uint64(binary.BigEndian.Uint32(sum[at:]) &^ (1 << 31))
	mod := uint64(1)
	for range digits {
		mod *= 10
	}
	return fmt.Sprintf("%0*d", digits, n%mod)
}

func totpStep(t time.Time) int64 { return t.Unix() / int64(totpPeriod/time.Second) }

var base32Secret = base32.StdEncoding.WithPadding(base32.NoPadding)

// AppCode returns the code that an authenticator app with a secret shows at a time, for tests and
// command lines.
func AppCode(secret string, at time.Time) (string, error) {
	key, err := base32Secret.DecodeString(strings.ToUpper(strings.ReplaceAll(secret, " ", "")))
	if err != nil {
		return "", fmt.Errorf("credential: secret of an authenticator app: %w", err)
	}
	return totpCode(key, totpStep(at), totpDigits), nil
}

// matchStep finds the period about now, later than last, whose code is the given one. If several
// are, it is the last.
func matchStep(secret []byte, now time.Time, last int64, code string) (step int64, ok bool) {
	present := totpStep(now)
	for i := present - totpWindow; i <= present+totpWindow; i++ {
		if subtle.ConstantTimeCompare([]byte(totpCode(secret, i, totpDigits)), []byte(code)) == 1 && i > last {
			step, ok = i, true
		}
	}
	return step, ok
}

// Enrolment is the secret that an owner puts into an authenticator app.
type Enrolment struct {
	Secret string // in base 32, to be typed
	URI    string // the same, and more: otpauth://totp/…
}

// QR returns the URI as a QR code: an SVG, black on white, without a size of its own.
func (e Enrolment) QR() (svg string, err error) {
	code, err := qr.Encode([]byte(e.URI))
	if err != nil {
		return "", err
	}
	return code.SVG(), nil
}

// BeginApp begins to enrol an authenticator app. issuer is the name of the service, as the app
// shows it. The enrolment expires after 15 minutes; [Store.ConfirmApp] completes it. Another
// enrolment makes it void, and so does raising the account's counter. An app that the account
// already has stays valid until then.
func (s *Store) BeginApp(ctx context.Context, who account.Caller, issuer string) (e Enrolment, err error) {
	secret := make([]byte, totpSecretLen)
	rand.Read(secret)
	e.Secret = base32Secret.EncodeToString(secret)
	_, err = s.accounts.Update(ctx, who, func(a *account.Account, step *repo.Step) error {
		doc, err := json.Marshal(appSecret{ID: rand.Text(), Secret: secret, Until: s.now().Add(enrolmentLife).UTC(), Credentials: a.Credentials})
		step.Set(enrolKey, s.accounts.Seal(a.DID, enrolKey, doc), s.now().Add(enrolmentLife))
		e.URI = appURI(issuer, string(a.Handle), e.Secret)
		return err
	})
	if err != nil {
		return Enrolment{}, err
	}
	return e, nil
}

func appURI(issuer, name, secret string) string {
	issuer = strings.ReplaceAll(issuer, ":", " ")
	v := func(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }
	return fmt.Sprintf("otpauth://totp/%s:%s?secret=%s&issuer=%s&algorithm=SHA1&digits=%d&period=%d",
		v(issuer), v(name), secret, v(issuer), totpDigits, totpPeriod/time.Second)
}

// ConfirmApp completes the enrolment of an authenticator app with a code of it, which is used up.
// An app that the account had before is removed. name is the owner's name for the app; it may be
// empty. Errors are [ErrNoFactor], if there is no enrolment or it has expired, [ErrWrongFactor],
// after which another code may be tried, and [ErrFactorName].
func (s *Store) ConfirmApp(ctx context.Context, who account.Caller, name, text string) (x Factor, err error) {
	kind, code := readCode(text)
	if kind != AuthenticatorApp {
		return x, ErrWrongFactor
	}
	err = s.changeFactors(ctx, who, func(a account.Account, f *factors, step *repo.Step) (*FactorChange, error) {
		doc, secret, err := s.readSecret(ctx, step, a.DID, enrolKey)
		if errors.Is(err, storage.ErrNotFound) || err == nil && (secret.Credentials != a.Credentials || !s.now().Before(secret.Until)) {
			return nil, ErrNoFactor
		} else if err != nil {
			return nil, err
		}
		at, ok := matchStep(secret.Secret, s.now(), 0, code)
		if !ok {
			return nil, ErrWrongFactor
		}
		app := &appFactor{Step: at}
		if app.Factor, err = s.newFactor(name, "Authenticator app"); err != nil {
			return nil, err
		}
		app.ID = secret.ID
		f.App = app
		x = f.describe(&app.Factor)
		kept, err := json.Marshal(appSecret{ID: secret.ID, Secret: secret.Secret})
		step.Expect(enrolKey, doc)
		step.Remove(enrolKey)
		step.Remove(guessesKey)
		step.Set(secretKey, s.accounts.Seal(a.DID, secretKey, kept), time.Time{})
		return &FactorChange{Event: FactorAdded, Factor: x}, err
	})
	return x, err
}

// readSecret opens a secret, and returns what it is stored as.
func (s *Store) readSecret(ctx context.Context, r storage.KVReader, did syntax.DID, key string) (doc []byte, secret appSecret, err error) {
	if doc, err = r.Get(ctx, key); err != nil {
		return nil, secret, err
	}
	text, err := s.accounts.Unseal(did, key, doc)
	if err == nil {
		err = json.Unmarshal(text, &secret)
	}
	return doc, secret, err
}

// useAppCode uses up a code of the app. wrong says that it is none; that is counted by the step,
// which is then to be made.
func (s *Store) useAppCode(ctx context.Context, did syntax.DID, f *factors, code string, step *repo.Step) (x *Factor, wrong, err error) {
	if f.App == nil {
		return nil, nil, ErrWrongFactor
	}
	g, doc, err := readGuesses(ctx, step)
	if err != nil {
		return nil, nil, err
	}
	if !g.more(s.now()) {
		return nil, nil, ErrTooManyCodes
	}
	_, secret, err := s.readSecret(ctx, step, did, secretKey)
	if err != nil {
		return nil, nil, fmt.Errorf("credential: authenticator app of %s: %w", did, err)
	}
	if secret.ID != f.App.ID {
		return nil, nil, fmt.Errorf("credential: authenticator app of %s: the secret is that of another", did)
	}
	at, ok := matchStep(secret.Secret, s.now(), f.App.Step, code)
	step.Expect(guessesKey, doc)
	if !ok {
		return nil, ErrWrongFactor, g.count(s.now(), step)
	}
	f.App.Step = at
	if doc != nil {
		err = g.right(s.now(), step)
	}
	return &f.App.Factor, nil, err
}

// guesses is how many wrong codes of the app were tried, in a short and in a long window. A code
// is right by chance three times in a million.
type guesses struct {
	Short guessWindow `json:"short"`
	Long  guessWindow `json:"long"`
}

type guessWindow struct {
	Wrong int       `json:"wrong"`
	Since time.Time `json:"since"`
}

const (
	shortGuesses, shortWindow = 5, 5 * time.Minute
	longGuesses, longWindow   = 50, 24 * time.Hour
)

func readGuesses(ctx context.Context, r storage.KVReader) (g guesses, doc []byte, err error) {
	doc, err = r.Get(ctx, guessesKey)
	if errors.Is(err, storage.ErrNotFound) {
		return g, nil, nil
	} else if err != nil {
		return g, nil, err
	}
	return g, doc, json.Unmarshal(doc, &g)
}

// renew begins a window anew that is over, or that a clock which was ahead has begun.
func (w *guessWindow) renew(now time.Time, length time.Duration) {
	if age := now.Sub(w.Since); age < 0 || age >= length {
		*w = guessWindow{Since: now.UTC()}
	}
}

// more reports whether another code may be tried.
func (g *guesses) more(now time.Time) bool {
	g.Short.renew(now, shortWindow)
	g.Long.renew(now, longWindow)
	return g.Short.Wrong < shortGuesses && g.Long.Wrong < longGuesses
}

// count adds a wrong code.
func (g *guesses) count(now time.Time, step *repo.Step) error {
	g.Short.Wrong++
	g.Long.Wrong++
	return g.write(now, step)
}

// right forgets the wrong codes just before a right one. Those of the day stay.
func (g *guesses) right(now time.Time, step *repo.Step) error {
	g.Short.Wrong = 0
	return g.write(now, step)
}

func (g *guesses) write(now time.Time, step *repo.Step) error {
	doc, err := json.Marshal(g)
	step.Set(guessesKey, doc, now.Add(longWindow))
	return err
}

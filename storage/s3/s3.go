package s3

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/pdskit/pdskit/storage/bucket"
)

// Config configures a bucket. Bucket is required, and so are credentials.
type Config struct {
	// Bucket is the name of the bucket, which must exist.
	Bucket string
	// Endpoint is the URL of the store, such as "https://ACCOUNT.r2.cloudflarestorage.com". Empty:
	// AWS, in the region. With "http:", objects are sent unencrypted.
	Endpoint string
	// Region is the region of the bucket. Empty: "us-east-1", which stores other than AWS accept.
	Region string
	// ForcePathStyle puts the bucket's name into the path of URLs instead of the host name, for
	// stores that have only one host name.
	ForcePathStyle bool
	// AccessKeyID and SecretAccessKey are the credentials. They need the rights to get, put, delete
	// and list objects, and to list and abort multipart uploads.
	AccessKeyID, SecretAccessKey string
	// Credentials, if set, are used instead, for example credentials that expire.
	Credentials aws.CredentialsProvider
	// UploadTimeout bounds the time of an upload, including the time for its bytes to arrive. 0:
	// five minutes.
	UploadTimeout time.Duration
	// StallTimeout is how long a request may make no progress, and how long the store may take to
	// respond after a part was sent. It does not count while the caller does not read, or while the
	// bytes of an upload have yet to arrive. 0: 15 seconds.
	StallTimeout time.Duration
	// Attempts is how often a request is made if it fails with a temporary error. 0: 3.
	Attempts int
	// PartSize is the size of a part in bytes. An upload keeps up to two parts in memory. 0: 5 MiB,
	// the protocol's minimum. There are at most 10,000 parts, so with 5 MiB an object may have 48
	// GiB.
	PartSize int
	// ConditionalWrites makes the store refuse to overwrite objects (If-None-Match). It is a second
	// line of defence: package bucket never uses a name twice. Not all stores support it. It must
	// be off for a bucket of package backup, which stores a damaged object again under its name.
	ConditionalWrites bool
	// TLS configures connections, for example with a private certificate authority. Nil: the
	// system's authorities.
	TLS *tls.Config
}

// Defaults and limits of the protocol.
const (
	defaultRegion  = "us-east-1"
	defaultUpload  = 5 * time.Minute
	defaultStall   = 15 * time.Second
	defaultRetries = 3
	minPart        = 5 << 20
	maxPart        = 1 << 30
	maxParts       = 10_000
	cleanupTime    = 10 * time.Second
)

// Bucket is a bucket of an S3 store. It implements bucket.Bucket, bucket.Presigner and
// bucket.Aborter. It is safe for concurrent use.
type Bucket struct {
	name        string
	client      *s3.Client
	presign     *s3.PresignClient
	transport   *http.Transport
	upload      time.Duration
	part        int
	conditional bool
	parts       sync.Pool // of *[]byte
}

var (
	_ bucket.Bucket    = (*Bucket)(nil)
	_ bucket.Presigner = (*Bucket)(nil)
	_ bucket.Aborter   = (*Bucket)(nil)
)

// New returns a bucket. It makes no request; use bucket.Store.Probe to check that the store
// answers.
func New(cfg Config) (*Bucket, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if cfg.Region == "" {
		cfg.Region = defaultRegion
	}
	if cfg.Credentials == nil {
		cfg.Credentials = credentials.NewStaticCredentialsProvider(cfg.AccessKeyID, cfg.SecretAccessKey, "")
	}
	if cfg.UploadTimeout == 0 {
		cfg.UploadTimeout = defaultUpload
	}
	if cfg.StallTimeout == 0 {
		cfg.StallTimeout = defaultStall
	}
	if cfg.Attempts == 0 {
		cfg.Attempts = defaultRetries
	}
	if cfg.PartSize == 0 {
		cfg.PartSize = minPart
	}
	b := &Bucket{
		name: cfg.Bucket, upload: cfg.UploadTimeout, part: cfg.PartSize, conditional: cfg.ConditionalWrites,
		transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: cfg.StallTimeout, KeepAlive: 30 * time.Second}).DialContext,
			TLSHandshakeTimeout: cfg.StallTimeout,
			TLSClientConfig:     cfg.TLS,
			ForceAttemptHTTP2:   true,
			MaxIdleConnsPerHost: 32,
			IdleConnTimeout:     90 * time.Second,
		},
	}
	b.parts.New = func() any {
		p := make([]byte, b.part)
		return &p
	}
	options := s3.Options{
		Region:       cfg.Region,
		Credentials:  cfg.Credentials,
		UsePathStyle: cfg.ForcePathStyle,
		HTTPClient: &http.Client{
			Transport: &watched{cfg.StallTimeout, b.transport},
			// A redirect would send the signature to somebody else.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		Retryer: retry.NewStandard(func(o *retry.StandardOptions) {
			o.MaxAttempts = cfg.Attempts
			o.MaxBackoff = 2 * time.Second
		}),
		RequestChecksumCalculation:                aws.RequestChecksumCalculationWhenRequired,
		ResponseChecksumValidation:                aws.ResponseChecksumValidationWhenRequired,
		DisableLogOutputChecksumValidationSkipped: true,
		DisableS3ExpressSessionAuth:               aws.Bool(true),
	}
	if cfg.Endpoint != "" {
		options.BaseEndpoint = aws.String(strings.TrimSuffix(cfg.Endpoint, "/"))
	}
	b.client = s3.New(options)
	b.presign = s3.NewPresignClient(b.client)
	return b, nil
}

func (cfg *Config) check() error {
	if cfg.Bucket == "" || strings.ContainsAny(cfg.Bucket, "/ \t\r\n?#") {
		return fmt.Errorf("s3: Config.Bucket %q: not the name of a bucket", cfg.Bucket)
	}
	if cfg.Credentials == nil && (cfg.AccessKeyID == "" || cfg.SecretAccessKey == "") {
		return errors.New("s3: Config.AccessKeyID or SecretAccessKey is missing")
	}
	if cfg.Endpoint != "" {
		u, err := url.Parse(cfg.Endpoint)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			return errors.New(`s3: Config.Endpoint: not an address such as "https://s3.example.com"`)
		}
	}
	if cfg.UploadTimeout < 0 || cfg.StallTimeout < 0 || cfg.Attempts < 0 {
		return errors.New("s3: a negative value in Config")
	}
	if cfg.PartSize != 0 && (cfg.PartSize < minPart || cfg.PartSize > maxPart) {
		return fmt.Errorf("s3: Config.PartSize %d: parts have from %d to %d bytes", cfg.PartSize, minPart, maxPart)
	}
	return nil
}

// Close closes connections that are not in use. The bucket can still be used.
func (b *Bucket) Close() error {
	b.transport.CloseIdleConnections()
	return nil
}

// Name returns the name of the bucket.
func (b *Bucket) Name() string { return b.name }

// cleanup returns a context for what is done after a failure.
func cleanup(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
}

package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/pdskit/pdskit/lexicon/syntax"
	"github.com/pdskit/pdskit/storage"
)

// onBlobs makes a mutant of Blobs.
func onBlobs(name string, change func(b storage.Blobs) hookBlobs, laws ...string) mutant {
	return mutant{name, laws, func(s storage.Store, _ int) storage.Store {
		h := change(s.Blobs)
		h.Blobs = s.Blobs
		s.Blobs = h
		return s
	}}
}

type noSeek struct{ io.ReadCloser }

func (noSeek) Seek(int64, int) (int64, error) { return 0, errors.New("no seek") }

// fromStart takes an offset from where the reader is for one from the start.
type fromStart struct{ io.ReadSeekCloser }

func (r fromStart) Seek(offset int64, whence int) (int64, error) {
	if whence == io.SeekCurrent {
		whence = io.SeekStart
	}
	return r.ReadSeekCloser.Seek(offset, whence)
}

func emptyUnless(err error, fn func() (storage.BlobInfo, error)) (storage.BlobInfo, error) {
	if err != nil {
		return storage.BlobInfo{}, err
	}
	return fn()
}

func blobMutants() []mutant {
	return []mutant{
		onBlobs("promotes at once", func(b storage.Blobs) hookBlobs {
			return hookBlobs{stage: func(ctx context.Context, did syntax.DID, mime string, r io.Reader, limits storage.BlobLimits) (storage.BlobInfo, error) {
				info, err := b.Stage(ctx, did, mime, r, limits)
				if err == nil {
					err = b.Promote(ctx, did, info.CID)
				}
				return info, err
			}}
		}, "Blobs/Stage", "History/", "Blobs/History/"),
		onBlobs("cuts blobs to the limit", func(b storage.Blobs) hookBlobs {
			return hookBlobs{stage: func(ctx context.Context, did syntax.DID, mime string, r io.Reader, limits storage.BlobLimits) (storage.BlobInfo, error) {
				if limits.Size > 0 {
					r = io.LimitReader(r, limits.Size)
				}
				return b.Stage(ctx, did, mime, r, limits)
			}}
		}, "Blobs/Limit", "History/", "Blobs/History/"),
		onBlobs("takes an error for the end of an upload", func(b storage.Blobs) hookBlobs {
			return hookBlobs{stage: func(ctx context.Context, did syntax.DID, mime string, r io.Reader, limits storage.BlobLimits) (storage.BlobInfo, error) {
				return b.Stage(ctx, did, mime, readerFunc(func(p []byte) (int, error) {
					n, err := r.Read(p)
					if err != nil {
						err = io.EOF
					}
					return n, err
				}), limits)
			}}
		}, "Blobs/BrokenUpload", "History/", "Blobs/History/"),
		onBlobs("counts a blob each time it is staged", func(b storage.Blobs) hookBlobs {
			return hookBlobs{stage: func(ctx context.Context, did syntax.DID, mime string, r io.Reader, limits storage.BlobLimits) (storage.BlobInfo, error) {
				used, err := b.Usage(ctx, did)
				if err != nil {
					return storage.BlobInfo{}, err
				}
				data, err := io.ReadAll(r)
				if err == nil && limits.Quota > 0 && int64(len(data)) > limits.Quota-used {
					err = storage.ErrQuota
				}
				return emptyUnless(err, func() (storage.BlobInfo, error) {
					return b.Stage(ctx, did, mime, bytes.NewReader(data), limits)
				})
			}}
		}, "Blobs/Quota", "History/", "Blobs/History/"),
		onBlobs("counts what is promoted only", func(b storage.Blobs) hookBlobs {
			usage := func(ctx context.Context, did syntax.DID) (used int64, err error) {
				for info, err := range b.List(ctx, did, cid.Undef) {
					if err != nil {
						return 0, err
					}
					used += info.Size
				}
				return used, nil
			}
			return hookBlobs{usage: usage, stage: func(ctx context.Context, did syntax.DID, mime string, r io.Reader, limits storage.BlobLimits) (storage.BlobInfo, error) {
				used, err := usage(ctx, did)
				if err == nil && limits.Quota > 0 && limits.Quota <= used {
					err = storage.ErrQuota
				}
				limits.Quota = 0
				return emptyUnless(err, func() (storage.BlobInfo, error) { return b.Stage(ctx, did, mime, r, limits) })
			}}
		}, "Blobs/Quota", "History/", "Blobs/History/"),
		onBlobs("gives no room back", func(b storage.Blobs) hookBlobs {
			var mu sync.Mutex
			ever := map[syntax.DID]map[cid.Cid]int64{}
			return hookBlobs{stage: func(ctx context.Context, did syntax.DID, mime string, r io.Reader, limits storage.BlobLimits) (storage.BlobInfo, error) {
				mu.Lock()
				defer mu.Unlock()
				used := int64(0)
				for _, n := range ever[did] {
					used += n
				}
				info, err := b.Stage(ctx, did, mime, r, limits)
				if err != nil {
					return info, err
				}
				if _, ok := ever[did][info.CID]; !ok && limits.Quota > 0 && info.Size > limits.Quota-used {
					return storage.BlobInfo{}, errors.Join(storage.ErrQuota, b.Delete(ctx, did, info.CID))
				}
				if ever[did] == nil {
					ever[did] = map[cid.Cid]int64{}
				}
				ever[did][info.CID] = info.Size
				return info, nil
			}}
		}, "Blobs/Quota", "History/", "Blobs/History/"),
		onBlobs("looks at the quota before it keeps the blob", func(b storage.Blobs) hookBlobs {
			return hookBlobs{stage: func(ctx context.Context, did syntax.DID, mime string, r io.Reader, limits storage.BlobLimits) (storage.BlobInfo, error) {
				used, err := b.Usage(ctx, did)
				if err != nil {
					return storage.BlobInfo{}, err
				}
				time.Sleep(5 * time.Millisecond)
				data, err := io.ReadAll(r)
				if err == nil && limits.Quota > 0 && int64(len(data)) > limits.Quota-used {
					err = storage.ErrQuota
				}
				limits.Quota = 0
				return emptyUnless(err, func() (storage.BlobInfo, error) {
					return b.Stage(ctx, did, mime, bytes.NewReader(data), limits)
				})
			}}
		}, "Blobs/QuotaRace"),
		later(onBlobs("counts from nothing", func(b storage.Blobs) hookBlobs {
			return hookBlobs{usage: func(ctx context.Context, did syntax.DID) (int64, error) { return 0, ctx.Err() }}
		}, "Blobs/Reopen", "Blobs/Kill", "Blobs/Shared")),
		onBlobs("does nothing when a blob is staged again", func(b storage.Blobs) hookBlobs {
			return hookBlobs{stage: func(ctx context.Context, did syntax.DID, mime string, r io.Reader, limits storage.BlobLimits) (storage.BlobInfo, error) {
				data, err := io.ReadAll(r)
				if err != nil {
					return storage.BlobInfo{}, err
				}
				for _, content := range []string{"staged", "promoted", "again"} {
					if info, _, err := b.Stat(ctx, did, blobCID(content)); err == nil && content == string(data) {
						return info, nil
					}
				}
				return b.Stage(ctx, did, mime, bytes.NewReader(data), limits)
			}}
		}, "Blobs/StageAgain", "Blobs/CollectFresh"),
		onBlobs("keeps the type of promoted blobs", func(b storage.Blobs) hookBlobs {
			return hookBlobs{setMIME: func(ctx context.Context, did syntax.DID, c cid.Cid, mime string) error {
				if _, promoted, err := b.Stat(ctx, did, c); err == nil && promoted {
					return nil
				}
				return b.SetMIME(ctx, did, c, mime)
			}}
		}, "Blobs/SetMIME", "History/", "Blobs/History/"),
		onBlobs("promotes what gets another type", func(b storage.Blobs) hookBlobs {
			return hookBlobs{setMIME: func(ctx context.Context, did syntax.DID, c cid.Cid, mime string) error {
				if err := b.SetMIME(ctx, did, c, mime); err != nil {
					return err
				}
				return b.Promote(ctx, did, c)
			}}
		}, "Blobs/SetMIME", "History/", "Blobs/History/"),
		onBlobs("promotes what is not there", func(b storage.Blobs) hookBlobs {
			return hookBlobs{promote: func(ctx context.Context, did syntax.DID, c cid.Cid) error {
				if err := b.Promote(ctx, did, c); !errors.Is(err, storage.ErrNotFound) {
					return err
				}
				return nil
			}}
		}, "Blobs/Promote", "History/", "Blobs/History/"),
		onBlobs("seeks from the start", func(b storage.Blobs) hookBlobs {
			return hookBlobs{open: func(ctx context.Context, did syntax.DID, c cid.Cid) (io.ReadSeekCloser, storage.BlobInfo, error) {
				r, info, err := b.Open(ctx, did, c)
				return fromStart{r}, info, err
			}}
		}, "Blobs/Ranges"),
		onBlobs("cannot seek", func(b storage.Blobs) hookBlobs {
			return hookBlobs{open: func(ctx context.Context, did syntax.DID, c cid.Cid) (io.ReadSeekCloser, storage.BlobInfo, error) {
				r, info, err := b.Open(ctx, did, c)
				return noSeek{r}, info, err
			}}
		}, "Blobs/Open"),
		onBlobs("does not delete promoted blobs", func(b storage.Blobs) hookBlobs {
			return hookBlobs{delete: func(ctx context.Context, did syntax.DID, c cid.Cid) error {
				if _, promoted, err := b.Stat(ctx, did, c); err == nil && promoted {
					return nil
				}
				return b.Delete(ctx, did, c)
			}}
		}, "Blobs/Delete", "History/", "Blobs/History/"),
		onBlobs("lists the blob after which to list", func(b storage.Blobs) hookBlobs {
			return hookBlobs{list: func(ctx context.Context, did syntax.DID, after cid.Cid) iter.Seq2[storage.BlobInfo, error] {
				return func(yield func(storage.BlobInfo, error) bool) {
					for info, err := range b.List(ctx, did, cid.Undef) {
						if info.CID.KeyString() >= after.KeyString() && !yield(info, err) {
							return
						}
					}
				}
			}}
		}, "Blobs/List", "History/", "Blobs/History/"),
		{"lists promoted blobs as staged", []string{"Blobs/Staged"}, func(s storage.Store, _ int) storage.Store {
			s.Blobs = lazyStaged{s.Blobs}
			return s
		}},
		onBlobs("collects everything that is staged", func(b storage.Blobs) hookBlobs {
			return hookBlobs{collect: func(ctx context.Context, _ time.Time) (int, error) {
				return b.Collect(ctx, time.Now().AddDate(1, 0, 0))
			}}
		}, "Blobs/Collect", "History/", "Blobs/History/"),
		onBlobs("collects what was promoted in the meantime", func(b storage.Blobs) hookBlobs {
			return hookBlobs{stage: func(ctx context.Context, did syntax.DID, mime string, r io.Reader, limits storage.BlobLimits) (storage.BlobInfo, error) {
				info, err := b.Stage(ctx, did, mime, r, limits)
				time.Sleep(time.Millisecond)
				return info, err
			}, collect: func(ctx context.Context, _ time.Time) (n int, err error) {
				var staged []cid.Cid
				for i := range 160 {
					c := blobCID(fmt.Sprint("blob ", i, " of one"))
					if _, promoted, err := b.Stat(ctx, alice, c); err == nil && !promoted {
						staged = append(staged, c)
					}
				}
				time.Sleep(time.Millisecond)
				for _, c := range staged {
					_ = b.Delete(ctx, alice, c)
				}
				return len(staged), ctx.Err()
			}}
		}, "Blobs/Race"),
		onBlobs("ignores the context in Promote", func(b storage.Blobs) hookBlobs {
			return hookBlobs{promote: func(ctx context.Context, did syntax.DID, c cid.Cid) error {
				return b.Promote(context.WithoutCancel(ctx), did, c)
			}}
		}, "Blobs/Canceled"),
		later(onBlobs("forgets what was promoted", func(b storage.Blobs) hookBlobs {
			return hookBlobs{stat: func(ctx context.Context, did syntax.DID, c cid.Cid) (storage.BlobInfo, bool, error) {
				info, _, err := b.Stat(ctx, did, c)
				return info, false, err
			}}
		}, "Blobs/Reopen", "Blobs/Kill", "Blobs/Shared")),
	}
}

package backup

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pdskit/pdskit/internal/filelock"
)

// An object store has no locks that end with their process. So there are two locks. A file lock in
// the server's directory is exact. An object names the holder and the time, and is renewed during
// the backup. If the object names the process that has the file lock, it is left from a process
// that was killed. If it names another holder, it is valid for lockLife.
//
// Clocks may differ, a directory may have been copied with its file, and a process may have been
// suspended. So before it stores a manifest or removes something, the holder checks that its object
// is still there, and is the only one.
const (
	remoteLockFile = "backup.lock"
	lockLife       = 10 * time.Minute
	lockRenewed    = lockLife / 5
)

// remoteLock keeps others from making or removing generations.
type remoteLock struct {
	r      remote
	file   *os.File
	holder string
	stop   context.CancelFunc
	done   sync.WaitGroup

	asking chan struct{}   // has an element while somebody asks for the objects, or renews
	made   map[string]bool // objects of this lock, and whether they may be there still; for who asks

	mu      sync.Mutex
	object  string
	renewed time.Time
}

// lock takes the lock, or fails with ErrBusy.
func (r remote) lock(ctx context.Context, dir string) (_ *remoteLock, err error) {
	l := &remoteLock{r: r, asking: make(chan struct{}, 1), made: make(map[string]bool)}
	if l.file, err = filelock.Try(filepath.Join(dir, remoteLockFile), filelock.Exclusive); errors.Is(err, filelock.ErrLocked) {
		return nil, ErrBusy
	} else if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.release())
		}
	}()
	if l.holder, err = holder(l.file); err != nil {
		return nil, err
	}
	if err = l.checkOthers(ctx); err != nil {
		return nil, err
	}
	if err = try(ctx, func() error { return l.renew(ctx) }); err != nil {
		return nil, err
	}
	if err = l.checkOthers(ctx); err != nil { // that came at the same time
		return nil, err
	}
	var renewing context.Context
	renewing, l.stop = context.WithCancel(ctx)
	l.done.Go(func() { l.keep(renewing) })
	return l, nil
}

// holder is a random number that stays in the lock's file.
func holder(f *os.File) (string, error) {
	text, err := io.ReadAll(io.LimitReader(f, 100))
	if err != nil || len(text) == len(rand.Text()) {
		return string(text), err
	}
	made := rand.Text()
	if err := f.Truncate(0); err != nil {
		return "", err
	}
	_, err = f.WriteAt([]byte(made), 0)
	return made, err
}

// checkOthers fails if another holder has the lock, and removes what killed processes have left.
func (l *remoteLock) checkOthers(ctx context.Context) error {
	all, err := l.r.sizes(ctx, remoteLocks)
	if err != nil {
		return err
	}
	for name := range all {
		who, when, _ := strings.Cut(strings.TrimPrefix(name, remoteLocks), "-")
		ms, err := strconv.ParseInt(when, 10, 64)
		age := time.Since(time.UnixMilli(ms)).Abs()
		switch {
		case name == l.object:
			continue
		case who != l.holder && err == nil && age < lockLife:
			return fmt.Errorf("%w: of another machine or directory, since less than %s", ErrBusy, age.Round(time.Second)+time.Second)
		}
		if err := l.r.delete(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// renew stores another object in place of the one before.
func (l *remoteLock) renew(ctx context.Context) error {
	now := time.Now()
	name := fmt.Sprintf("%s%s-%d", remoteLocks, l.holder, now.UnixMilli())
	l.made[name] = true
	if err := l.r.b.Put(ctx, l.r.prefix+name, strings.NewReader("\n"), 1); err != nil {
		return err
	}
	l.mu.Lock()
	before := l.object
	l.object, l.renewed = name, now
	l.mu.Unlock()
	if before == "" || before == name {
		return nil
	}
	if err := l.r.b.Delete(ctx, l.r.prefix+before); err != nil {
		return err
	}
	l.made[before] = false
	return nil
}

// keep renews the lock until the context ends. A failure is no error as long as held is satisfied.
func (l *remoteLock) keep(ctx context.Context) {
	ticker := time.NewTicker(lockRenewed)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			l.asking <- struct{}{}
			if l.checkHeld(ctx) == nil {
				_ = l.renew(ctx)
			}
			<-l.asking
		}
	}
}

// held fails if the lock may soon count no longer, or does not now, as after the process was
// suspended. It is asked before anything is removed that others may refer to by then.
func (l *remoteLock) held(ctx context.Context) error {
	l.mu.Lock()
	age := time.Since(l.renewed)
	l.mu.Unlock()
	if age > lockLife/2 {
		return fmt.Errorf("%w, or may be: this one was suspended, or the store did not answer, for %s", ErrBusy, age.Round(time.Second))
	}
	l.asking <- struct{}{}
	defer func() { <-l.asking }()
	return l.checkHeld(ctx)
}

// checkHeld fails if another one has taken the lock.
func (l *remoteLock) checkHeld(ctx context.Context) error {
	all, err := l.r.sizes(ctx, remoteLocks)
	if err != nil {
		return err
	}
	if _, ok := all[l.object]; !ok {
		return fmt.Errorf("%w, or was: it took the lock of this one (do the clocks of both machines agree?)", ErrBusy)
	}
	for name := range all {
		if _, ours := l.made[name]; !ours {
			return fmt.Errorf("%w (do the clocks of both machines agree?)", ErrBusy)
		}
	}
	return nil
}

// release lets others in. What stays of it counts no longer than lockLife, and not to this holder.
func (l *remoteLock) release() error {
	if l.stop != nil {
		l.stop()
	}
	l.done.Wait()
	var left []string
	for name, there := range l.made {
		if there {
			left = append(left, l.r.prefix+name)
		}
	}
	if len(left) > 0 {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = l.r.b.Delete(ctx, left...)
	}
	return l.file.Close()
}

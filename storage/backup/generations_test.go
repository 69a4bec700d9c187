package backup_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pdskit/pdskit/internal/seed"
	"github.com/pdskit/pdskit/repo/account"
	"github.com/pdskit/pdskit/repo/check"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/backup"
)

// Generations stay as -keep says, and blobs as long as one of them refers to them.
func TestGenerations(t *testing.T) {
	if testing.Short() {
		t.Skip("restores each generation of 16 days each day")
	}
	dest := filepath.Join(t.TempDir(), "backup")
	w := open(t, filepath.Join(t.TempDir(), "data"), options{})
	w.seed(t, 0, 1, seed.Seed{Blobs: 1})
	start := time.Date(2026, 11, 2, 3, 30, 0, 0, time.UTC) // a Monday
	var keep backup.Keep
	if err := keep.Set("3d,2w"); err != nil {
		t.Fatal(err)
	}
	old := w.dids[0]
	blobs := map[string]int{}
	for day := range 16 {
		if day == 1 { // what only the first generation has
			acct, err := w.accounts.ByDID(t.Context(), old)
			if err == nil {
				err = w.accounts.Delete(t.Context(), account.Trusted(acct.DID))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		w.seed(t, 10+day, 11+day, seed.Seed{Blobs: 1})
		w.backup(t, backup.Backup{Layout: layout, Keep: keep, Now: func() time.Time { return start.AddDate(0, 0, day) }}, dest)
		for _, g := range generationsOf(t, dest) {
			r := restored(t, g)
			if n, ok := blobs[g]; ok && r.Blobs != n || r.Found != 0 {
				t.Errorf("day %d, %s: %+v", day, g, r)
			}
			blobs[g] = r.Blobs
		}
	}
	var days []string
	for _, g := range generationsOf(t, dest) {
		days = append(days, filepath.Base(g))
	}
	if d := cmp.Diff([]string{"20261115T033000Z", "20261116T033000Z", "20261117T033000Z"}, days); d != "" {
		t.Error(d) // the Sunday is also that of the week before
	}
	if n := len(blobFiles(t, filepath.Join(dest, nameBlobs))); n != 16 {
		t.Errorf("%d blobs are left, want 16", n)
	}
	// Without -keep, the newest alone.
	w.backup(t, backup.Backup{Layout: layout}, dest)
	if g := generationsOf(t, dest); len(g) != 1 {
		t.Errorf("%q", g)
	}
}

func TestKeep(t *testing.T) {
	at := func(s string) time.Time {
		v, err := time.Parse("2006-01-02 15:04", s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	times := []time.Time{at("2026-03-02 09:30"), at("2026-03-02 09:10"), at("2026-03-02 08:00"), at("2026-03-01 08:00"), at("2026-02-28 08:00"), at("2026-02-22 08:00"),
		at("2026-01-05 08:00"), at("2025-12-31 08:00"), at("2024-05-01 08:00")}
	for text, want := range map[string][]int{
		"1": {0}, "3": {0, 1, 2}, "2h": {0, 2}, "2d": {0, 3}, "7d": {0, 3, 4, 5, 6, 7, 8}, "3w": {0, 3, 5}, "2m": {0, 4}, "3y": {0, 7, 8}, "2d,2y": {0, 3, 7}, "1d,1w,1m,1y": {0}, "10000": {0, 1, 2, 3, 4, 5, 6, 7, 8},
	} {
		var k backup.Keep
		if err := k.Set(text); err != nil || k.String() != text {
			t.Errorf("%q: %q, %v", text, k, err)
		}
		var got []int
		for i, kept := range backup.Choose(k, times) {
			if kept {
				got = append(got, i)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s keeps %v, want %v", text, got, want)
		}
	}
	for _, text := range []string{"", "0", "0d", "d", "-1d", "7x", "7dd", "7d,", ",7d", "7 d", "1.5d", "10001d", "99999999999999999999"} {
		k := backup.Keep{{Count: 1}}
		if err := k.Set(text); err == nil || len(k) != 1 {
			t.Errorf("%q: %v, %v", text, k, err)
		}
	}
}

// Whatever the clock says, the generation with the newest events is the newest: it is restored and
// stays.
func TestGenerationsOfAWrongClock(t *testing.T) {
	dest := filepath.Join(t.TempDir(), "backup")
	w := open(t, filepath.Join(t.TempDir(), "data"), options{})
	for n, year := range []int{2026, 2036, 2026} {
		w.seed(t, n, n+1, seed.Seed{Blobs: 1})
		w.backup(t, backup.Backup{Layout: layout, Now: func() time.Time { return time.Date(year, 1, 1+n, 0, 0, 0, 0, time.UTC) }}, dest)
		if r := restored(t, dest); r.Accounts != n+1 {
			t.Errorf("%d accounts, want %d", r.Accounts, n+1)
		}
	}
	if g := generationsOf(t, dest); len(g) != 1 || filepath.Base(g[0]) != "20260103T000000Z" {
		t.Errorf("%q", g)
	}
}

// Of generations without events between them, as when only a password was changed, the last one is
// the newest, though its clock was behind.
func TestGenerationsOfAClockThatGoesBack(t *testing.T) {
	dest := filepath.Join(t.TempDir(), "backup")
	w := open(t, filepath.Join(t.TempDir(), "data"), options{})
	w.seed(t, 0, 1, seed.Seed{})
	keep := backup.Keep{{Count: 10}}
	for n, hour := range []int{12, 20, 10, 11} {
		err := w.Store.KV.Write(t.Context(), func(tx storage.KVTx) error {
			return tx.Set(t.Context(), "state", fmt.Append(nil, n), time.Time{})
		})
		if err != nil {
			t.Fatal(err)
		}
		m := w.backup(t, backup.Backup{Layout: layout, Keep: keep, Now: func() time.Time { return time.Date(2026, 1, 1, hour, 0, 0, 0, time.UTC) }}, dest)
		if m.Number != n+1 {
			t.Errorf("generation %d has number %d", n+1, m.Number)
		}
		to := filepath.Join(t.TempDir(), "restored")
		if _, err := (backup.Restore{Layout: layout}).From(t.Context(), dest, nil, to); err != nil {
			t.Fatal(err)
		}
		err = open(t, to, options{}).Store.KV.Read(t.Context(), func(r storage.KVReader) error {
			got, err := r.Get(t.Context(), "state")
			if string(got) != fmt.Sprint(n) {
				t.Errorf("state %s is restored, want %d", got, n)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if g := generationsOf(t, dest); len(g) != 4 {
		t.Errorf("%q", g)
	}
}

// A clock that goes back and forth does not use up the days that are kept.
func TestKeepOfAClockThatGoesBackAndForth(t *testing.T) {
	day := func(n int) time.Time { return time.Date(2026, 1, n, 8, 0, 0, 0, time.UTC) }
	got := backup.Choose(backup.Keep{{Count: 3, Unit: 'd'}}, []time.Time{day(9), day(20), day(9), day(20), day(9), day(8), day(7)})
	if want := []bool{true, true, false, false, false, true, false}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// A backup of an older state, as of a server that was set up anew, does not push out what is there.
func TestBackupOfAnOlderState(t *testing.T) {
	dest := filepath.Join(t.TempDir(), "backup")
	w := open(t, filepath.Join(t.TempDir(), "data"), options{})
	w.seed(t, 0, 1, seed.Seed{Blobs: 1})
	w.backup(t, backup.Backup{Layout: layout}, dest)
	before := files(t, dest)
	empty := open(t, filepath.Join(t.TempDir(), "data"), options{})
	if _, err := (backup.Backup{Layout: layout}).ToDir(t.Context(), empty.Source, dest); !errors.Is(err, backup.ErrOlder) {
		t.Error(err)
	}
	if d := cmp.Diff(before, files(t, dest)); d != "" {
		t.Error(d)
	}
}

// As long as nobody knows which blobs a generation has, none is deleted; and it is not passed over
// silently.
func TestGenerationThatCannotBeRead(t *testing.T) {
	for name, damage := range map[string]func(dir string) error{
		"no list":     func(dir string) error { return os.Remove(filepath.Join(dir, "blobs.list")) },
		"another":     func(dir string) error { return os.WriteFile(filepath.Join(dir, "blobs.list"), nil, 0o600) },
		"no manifest": func(dir string) error { return os.Remove(filepath.Join(dir, "backup.json")) },
		"half a manifest": func(dir string) error {
			return os.Truncate(filepath.Join(dir, "backup.json"), 20)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dest := filepath.Join(t.TempDir(), "backup")
			w := open(t, filepath.Join(t.TempDir(), "data"), options{})
			w.seed(t, 0, 1, seed.Seed{Blobs: 2})
			w.backup(t, backup.Backup{Layout: layout}, dest)
			old := generationsOf(t, dest)[0]
			if err := damage(old); err != nil {
				t.Fatal(err)
			}
			acct, err := w.accounts.ByDID(t.Context(), w.dids[0])
			if err == nil {
				err = w.accounts.Delete(t.Context(), account.Trusted(acct.DID))
			}
			if err != nil {
				t.Fatal(err)
			}
			w.seed(t, 1, 2, seed.Seed{Blobs: 1})
			w.backup(t, backup.Backup{Layout: layout, Keep: backup.Keep{{Count: 5}}}, dest)
			if n := len(blobFiles(t, filepath.Join(dest, nameBlobs))); n != 3 {
				t.Errorf("%d blobs are left, want 3", n)
			}
			unreadable := strings.Contains(name, "manifest")
			var report *check.Report
			_, err = (backup.Restore{Layout: layout, Verify: verifyRestored(&report)}).From(t.Context(), dest, nil, filepath.Join(t.TempDir(), "restored"))
			if unreadable != errors.Is(err, backup.ErrBadBackup) || unreadable != (err != nil) {
				t.Error(err)
			}
			newest := generationsOf(t, dest)
			if r := restored(t, newest[len(newest)-1]); r.Blobs != 1 {
				t.Errorf("%+v", r)
			}
		})
	}
}

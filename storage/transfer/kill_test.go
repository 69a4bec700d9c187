package transfer_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/pdskit/pdskit/internal/pgtest"
	"github.com/pdskit/pdskit/storage"
	"github.com/pdskit/pdskit/storage/sqlite"
	"github.com/pdskit/pdskit/storage/transfer"
)

// moverEnv names the directory in which a child process of a test moves a store.
const moverEnv = "PDSKIT_TEST_MOVER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(moverEnv); dir != "" {
		if err := moveIn(context.Background(), dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(pgtest.Main(m))
}

// moveIn moves a store in a directory, as a process of its own does.
func moveIn(ctx context.Context, dir string) error {
	from, err := sqlite.Open(ctx, filepath.Join(dir, "from"), sqlite.Config{})
	if err != nil {
		return err
	}
	to, err := sqlite.Open(ctx, filepath.Join(dir, "to"), sqlite.Config{})
	if err != nil {
		return err
	}
	m, err := transfer.New(transfer.Config{From: from.Store(), To: to.Store(), Name: "to"})
	if err != nil {
		return err
	}
	if _, err := m.Finish(ctx); err != nil {
		return err
	}
	return errors.Join(from.Close(), to.Close())
}

// A process that moves a store is killed again and again, at any moment, while another one writes to
// the store. The last one finishes, and nothing is missing.
//
//	PDSKIT_KILLS=100 go test -run TestKilledMover -v ./storage/transfer
func TestKilledMover(t *testing.T) {
	kills := 8
	if n, err := strconv.Atoi(os.Getenv("PDSKIT_KILLS")); err == nil {
		kills = n
	}
	dir := t.TempDir()
	db, err := sqlite.Open(t.Context(), filepath.Join(dir, "from"), sqlite.Config{Relaxed: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	w := newWorld(t, db.Store(), 1)
	w.live(t.Context(), 10, 200)
	stop := make(chan struct{})
	var busy sync.WaitGroup
	for who := range 3 {
		busy.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				pause(n)
				if err := w.act(t.Context(), who); err != nil && !errors.Is(err, storage.ErrMoved) {
					t.Error(err)
					return
				}
			}
		})
	}
	run := func() *exec.Cmd {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), moverEnv+"="+dir)
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	var states [3]int
	left := false
	for i := range kills {
		cmd := run()
		time.Sleep(30*time.Millisecond + time.Duration(rand.Int64N(int64(200*time.Millisecond)*int64(1+i%8)))) // when is what is tried out
		cmd.Process.Kill()
		cmd.Wait()
		st, err := db.Store().Repos.(storage.Movable).Watched(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		states[st.State]++
		if s, err := transfer.SourceStatus(t.Context(), db.Store()); err != nil || s.Source == "left" {
			left = true
			break
		}
	}
	t.Logf("killed with the source unwatched, watched, shut: %v; finished: %v", states, left)
	if err := run().Wait(); err != nil {
		t.Fatal(err)
	}
	close(stop)
	busy.Wait()
	to, err := sqlite.Open(t.Context(), filepath.Join(dir, "to"), sqlite.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	same(t, to.Store(), db.Store())
	w.keeps(t.Context(), to.Store())
	if err := transfer.Enter(t.Context(), to.Store(), ""); err != nil {
		t.Error(err)
	}
}

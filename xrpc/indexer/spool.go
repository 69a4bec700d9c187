package indexer

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/pdskit/pdskit/car"
)

// spool holds the bytes of a download: a few in memory, many in a temporary file.
type spool struct {
	buf  []byte // what is not in the file
	file car.TempFile
	size int64 // of what is in the file
}

// spoolMemory is how many bytes are held in memory.
const spoolMemory = 256 << 10

// fill reads all of r, at most so many bytes.
func (s *spool) fill(r io.Reader, most int64, temp car.Temp) error {
	s.buf = make([]byte, 0, 4<<10)
	for {
		if len(s.buf) == spoolMemory {
			if err := s.flush(temp); err != nil {
				return err
			}
		}
		if len(s.buf) == cap(s.buf) {
			grown := make([]byte, len(s.buf), min(4*cap(s.buf), spoolMemory))
			copy(grown, s.buf)
			s.buf = grown
		}
		n, err := r.Read(s.buf[len(s.buf):cap(s.buf)])
		s.buf = s.buf[:len(s.buf)+n]
		if s.size+int64(len(s.buf)) > most {
			return fmt.Errorf("the repository has more than %d bytes", most)
		}
		if err == io.EOF {
			if s.file == nil {
				return nil
			}
			return s.flush(temp)
		}
		if err != nil {
			return downloadError(err)
		}
	}
}

func (s *spool) flush(temp car.Temp) (err error) {
	if s.file == nil {
		if s.file, err = temp(0); err != nil {
			return err
		}
	}
	if _, err := s.file.WriteAt(s.buf, s.size); err != nil {
		return err
	}
	s.size += int64(len(s.buf))
	s.buf = s.buf[:0]
	return nil
}

// ReadAt implements io.ReaderAt.
func (s *spool) ReadAt(b []byte, off int64) (int, error) {
	if s.file != nil {
		return s.file.ReadAt(b, off)
	}
	if off >= int64(len(s.buf)) {
		return 0, io.EOF
	}
	n := copy(b, s.buf[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// reader reads it from the start.
func (s *spool) reader() *io.SectionReader {
	return io.NewSectionReader(s, 0, max(s.size, int64(len(s.buf))))
}

func (s *spool) close() {
	if s.file != nil {
		s.file.Close()
	}
}

// Limits on how slow a download may be.
const (
	downloadStart = time.Minute // to the first bytes, and in all besides the time for them
	downloadIdle  = 30 * time.Second
	downloadRate  = 16 << 10 // bytes a second
)

// pace ends a download that is too slow.
type pace struct {
	io.Reader
	timer  *time.Timer
	cancel context.CancelFunc
	began  time.Time // by the clock of timers, as end
	end    time.Time
	bytes  atomic.Int64 // that were read
}

// newPace returns a context that ends when a download is too slow.
func newPace(ctx context.Context) (context.Context, *pace) {
	ctx, cancel := context.WithCancel(ctx)
	now := time.Now()
	return ctx, &pace{timer: time.AfterFunc(downloadStart, cancel), cancel: cancel, began: now, end: now.Add(downloadStart)}
}

func (p *pace) Read(b []byte) (int, error) {
	n, err := p.Reader.Read(b)
	p.bytes.Add(int64(n))
	p.end = p.end.Add(time.Duration(n) * time.Second / downloadRate)
	p.timer.Reset(min(time.Until(p.end), downloadIdle))
	return n, err
}

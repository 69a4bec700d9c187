package indexer

import "time"

// A long download gives up its place to other downloads and gets one of the places for slow ones.
// If those are full, the slowest download is ended from time to time, unless it is a fast download
// of a large repository. Hosts whose last download failed or was ended get at most half of the
// places. So slow hosts cannot block the others, however many hosts and accounts they have.
const (
	slowAfter = time.Minute
	slowShare = 4                 // places for slow downloads, by Indexer.Fetches
	slowRate  = 10 * downloadRate // below it, one may be ended
	cutEvery  = 10 * time.Second
)

// setPace notes the download of a job; nil: it has ended.
func (x *jobs) setPace(j *job, p *pace) {
	x.mu.Lock()
	defer x.mu.Unlock()
	j.pace = p
}

func (p *pace) slow(now time.Time) bool { return p != nil && now.Sub(p.began) > slowAfter }

// places is how many places are taken, and how many of them by hosts that failed before.
func (x *jobs) places() (taken, failing int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	slow, now := 0, time.Now()
	for _, j := range x.list {
		if j.pace.slow(now) {
			slow++
		} else if j.failing {
			failing++
		}
	}
	return len(x.list) - min(slow, x.slowMost), failing
}

// cutSlowest ends the slowest download, if there are more slow ones than places for them.
func (x *jobs) cutSlowest() {
	x.mu.Lock()
	defer x.mu.Unlock()
	now := time.Now()
	if now.Sub(x.cut) < cutEvery {
		return
	}
	var slowest *pace
	least := float64(slowRate)
	slow := 0
	for _, j := range x.list {
		if j.pace.slow(now) {
			slow++
			if rate := float64(j.pace.bytes.Load()) / now.Sub(j.pace.began).Seconds(); rate < least {
				slowest, least = j.pace, rate
			}
		}
	}
	if slowest != nil && slow > x.slowMost {
		x.cut = now
		slowest.cancel()
	}
}

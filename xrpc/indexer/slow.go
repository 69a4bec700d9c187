package indexer

import "time"

// A download that takes long gives its place to others. There are some places for those, too, and
// if there are more, the slowest download is ended every now and then, unless it is a fast one of a
// large repository. Hosts whose last download failed, or was ended, get no more than half of the
// places: so hosts that send slowly cannot keep the others from being read, however many they and
// their accounts are.
const (
	slowAfter = time.Minute
	slowShare = 4                 // places for slow downloads, by Indexer.Fetches
	slowRate  = 10 * downloadRate // below it, one may be ended
	cutEvery  = 10 * time.Second
)

// load notes the download of a job; nil: it has ended.
func (x *jobs) load(j *job, p *pace) {
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

package pmap

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestAgainstMap(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	type snapshot struct {
		m    Map[int]
		want map[string]int
	}
	var snapshots []snapshot
	m, want := Map[int]{}, map[string]int{}
	for i := range 5000 {
		k := fmt.Sprint(rng.IntN(300))
		if rng.IntN(3) == 0 {
			m = m.Delete(k)
			delete(want, k)
		} else {
			m = m.Set(k, i)
			want[k] = i
		}
		if i%100 == 0 {
			snapshots = append(snapshots, snapshot{m, maps.Clone(want)})
		}
	}
	for i, s := range snapshots {
		from, to := fmt.Sprint(rng.IntN(300)), fmt.Sprint(rng.IntN(300))
		for _, b := range [][2]string{{"", ""}, {from, ""}, {"", to}, {from, to}} {
			var keys []string
			for _, k := range slices.Sorted(maps.Keys(s.want)) {
				if k >= b[0] && (b[1] == "" || k < b[1]) {
					keys = append(keys, k)
				}
			}
			for _, reverse := range []bool{false, true} {
				var got []string
				for k, v := range s.m.Range(b[0], b[1], reverse) {
					if v != s.want[k] {
						t.Fatalf("snapshot %d: %s = %d, want %d", i, k, v, s.want[k])
					}
					got = append(got, k)
				}
				if !slices.Equal(got, keys) {
					t.Fatalf("snapshot %d, %q, reverse %v: %v, want %v", i, b, reverse, got, keys)
				}
				slices.Reverse(keys)
			}
		}
		if s.m.Len() != len(s.want) {
			t.Fatalf("snapshot %d: length %d, want %d", i, s.m.Len(), len(s.want))
		}
	}
}

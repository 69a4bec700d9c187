package storage

// Prefix returns the range of all keys or paths that begin with a prefix.
func Prefix(prefix string) Range {
	to := []byte(prefix)
	for len(to) > 0 {
		if last := &to[len(to)-1]; *last < 0xff {
			*last++
			break
		}
		to = to[:len(to)-1]
	}
	return Range{From: prefix, To: string(to)}
}

package qr

// draw places the patterns and the bytes of a version, under the mask that is read best.
func draw(version int, bytes []byte) *Code {
	c := &Code{Size: 4*version + 17}
	c.dark, c.fixed = make([]bool, c.Size*c.Size), make([]bool, c.Size*c.Size)
	c.patterns(version)
	c.place(bytes)
	best, least := 0, -1
	for mask := range masks {
		c.mask(mask)
		c.format(mask)
		if p := c.penalty(); least < 0 || p < least {
			best, least = mask, p
		}
		c.mask(mask) // takes it back
	}
	c.mask(best)
	c.format(best)
	return c
}

// set draws a module of a pattern.
func (c *Code) set(x, y int, dark bool) {
	c.dark[y*c.Size+x], c.fixed[y*c.Size+x] = dark, true
}

// ring draws a square of rings around a module: dark where the distance is in the set.
func (c *Code) ring(x, y, radius int, dark func(distance int) bool) {
	for dy := -radius; dy <= radius; dy++ {
		for dx := -radius; dx <= radius; dx++ {
			if px, py := x+dx, y+dy; px >= 0 && py >= 0 && px < c.Size && py < c.Size {
				c.set(px, py, dark(max(abs(dx), abs(dy))))
			}
		}
	}
}

func abs(n int) int { return max(n, -n) }

// patterns draws all but the data and the format, for which it keeps the place.
func (c *Code) patterns(version int) {
	last := c.Size - 1
	for i := range c.Size {
		c.set(i, 6, i%2 == 0)
		c.set(6, i, i%2 == 0)
	}
	finder := func(d int) bool { return d != 2 && d != 4 } // 4 is the separator
	c.ring(3, 3, 4, finder)
	c.ring(last-3, 3, 4, finder)
	c.ring(3, last-3, 4, finder)
	at := alignment(version)
	for i, x := range at {
		for j, y := range at {
			end := len(at) - 1
			if i == 0 && j == 0 || i == 0 && j == end || i == end && j == 0 {
				continue // finders are there
			}
			c.ring(x, y, 2, func(d int) bool { return d != 1 })
		}
	}
	c.format(0)
	if version >= 7 {
		v := version<<12 | remainder(version<<12, 0x1f25, 12)
		for i := range 18 {
			c.set(last-10+i%3, i/3, v>>i&1 == 1)
			c.set(i/3, last-10+i%3, v>>i&1 == 1)
		}
	}
}

// remainder is that of a polynomial over GF(2), divided by a generator of a degree.
func remainder(v, generator, degree int) int {
	for i := 30; i >= degree; i-- {
		if v>>i&1 == 1 {
			v ^= generator << (i - degree)
		}
	}
	return v
}

// formatBits are the 15 bits that say level M and a mask.
func formatBits(mask int) int {
	v := mask << 10 // the bits of level M are 00
	return (v | remainder(v, 0x537, 10)) ^ 0x5412
}

// format draws those bits twice, and the dark module.
func (c *Code) format(mask int) {
	v, last := formatBits(mask), c.Size-1
	bit := func(i int) bool { return v>>i&1 == 1 }
	for i := range 15 {
		// Around the first finder, past the timing patterns.
		switch {
		case i < 6:
			c.set(8, i, bit(i))
		case i < 8:
			c.set(8, i+1, bit(i))
		case i == 8:
			c.set(7, 8, bit(i))
		default:
			c.set(14-i, 8, bit(i))
		}
		// Beside the others.
		if i < 8 {
			c.set(last-i, 8, bit(i))
		} else {
			c.set(8, last-14+i, bit(i))
		}
	}
	c.set(8, last-7, true)
}

// place writes bits in the order in which they are read: in columns of two modules from the right,
// up and down in turn, past the timing pattern.
func (c *Code) place(bytes []byte) {
	n := 0
	up := true
	for right := c.Size - 1; right > 0; right -= 2 {
		if right == 6 {
			right--
		}
		for i := range c.Size {
			y := i
			if up {
				y = c.Size - 1 - i
			}
			for _, x := range [2]int{right, right - 1} {
				if c.fixed[y*c.Size+x] {
					continue
				}
				if n < 8*len(bytes) {
					c.dark[y*c.Size+x] = bytes[n/8]>>(7-n%8)&1 == 1
				}
				n++
			}
		}
		up = !up
	}
}

// masks say which modules are turned over.
var masks = [8]func(x, y int) bool{
	func(x, y int) bool { return (x+y)%2 == 0 },
	func(x, y int) bool { return y%2 == 0 },
	func(x, y int) bool { return x%3 == 0 },
	func(x, y int) bool { return (x+y)%3 == 0 },
	func(x, y int) bool { return (y/2+x/3)%2 == 0 },
	func(x, y int) bool { return x*y%2+x*y%3 == 0 },
	func(x, y int) bool { return (x*y%2+x*y%3)%2 == 0 },
	func(x, y int) bool { return ((x+y)%2+x*y%3)%2 == 0 },
}

// mask turns over the modules of a mask that hold data. Done twice, it does nothing.
func (c *Code) mask(mask int) {
	for i, fixed := range c.fixed {
		if !fixed && masks[mask](i%c.Size, i/c.Size) {
			c.dark[i] = !c.dark[i]
		}
	}
}

// penalty says how hard a code is to read: runs and squares of one colour, what looks like a
// finder, and more of one colour than of the other.
func (c *Code) penalty() (points int) {
	dark := 0
	line := make([]bool, c.Size)
	for i := range c.Size {
		for j := range line {
			line[j] = c.Dark(j, i)
		}
		points += linePenalty(line)
		for j := range line {
			line[j] = c.Dark(i, j)
		}
		points += linePenalty(line)
		for j := range c.Size {
			d := c.Dark(j, i)
			if d {
				dark++
			}
			if i > 0 && j > 0 && c.Dark(j-1, i) == d && c.Dark(j, i-1) == d && c.Dark(j-1, i-1) == d {
				points += 3
			}
		}
	}
	// Ten points for each whole 5 % that the dark modules are off the half.
	return points + 10*(abs(20*dark-10*c.Size*c.Size)/(c.Size*c.Size))
}

// linePenalty is that of a row or a column: runs of five or more, and 1:1:3:1:1 with four light
// modules on one side.
func linePenalty(line []bool) (points int) {
	run := 0
	for i, d := range line {
		if i > 0 && line[i-1] == d {
			run++
		} else {
			run = 1
		}
		if run == 5 {
			points += 3
		} else if run > 5 {
			points++
		}
	}
	finder := [7]bool{true, false, true, true, true, false, true}
	light := func(from, to int) bool {
		if from < 0 || to > len(line) {
			return false
		}
		for _, d := range line[from:to] {
			if d {
				return false
			}
		}
		return true
	}
	for i := 0; i+7 <= len(line); i++ {
		if [7]bool(line[i:i+7]) == finder && (light(i-4, i) || light(i+7, i+11)) {
			points += 40
		}
	}
	return points
}

//go:build unix

package durablefile

const dirsSync = true

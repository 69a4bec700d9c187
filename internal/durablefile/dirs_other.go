//go:build !unix

package durablefile

const dirsSync = false

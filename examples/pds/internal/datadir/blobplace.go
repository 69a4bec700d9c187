package datadir

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/pdskit/pdskit/internal/durablefile"
)

// Files in a folder of blobs that keep servers from using it.
const (
	unfinishedName = "unfinished-copy" // blobs are being moved here
	movedName      = "moved-to"        // blobs were moved from here, to the folder that it names
)

// Errors about folders of blobs.
var (
	// ErrUnfinished: not all blobs are in a folder yet.
	ErrUnfinished = errors.New("datadir: blobs are being moved to that folder, and not all are there")
	// ErrMoved: blobs were moved to another folder.
	ErrMoved = errors.New("datadir: the blobs were moved from that folder")
)

// checkPlace makes sure that the folder of the blobs is the one in use.
func checkPlace(folder string) error {
	if err := CheckUnfinished(folder); err != nil {
		return err
	}
	to, err := os.ReadFile(filepath.Join(folder, movedName))
	if err != nil {
		return nil
	}
	return fmt.Errorf("%w: set PDS_BLOBSTORE_DISK_LOCATION=%s (or delete %s, if they are to stay here)", ErrMoved, strings.TrimSpace(string(to)), filepath.Join(folder, movedName))
}

// CheckUnfinished makes sure that a folder is not one that blobs are being moved to.
func CheckUnfinished(folder string) error {
	if _, err := os.Lstat(filepath.Join(folder, unfinishedName)); err != nil {
		return nil
	}
	return fmt.Errorf("%w: %s (stop the server, set PDS_BLOBSTORE_DISK_LOCATION as it was, and run pds move-blobs again)", ErrUnfinished, folder)
}

// BeginBlobs makes a folder ready to get the blobs of another one. It must be empty, or have an
// unfinished copy.
func BeginBlobs(folder string) error {
	if err := durablefile.MkdirAll(folder); err != nil {
		return err
	}
	mark := filepath.Join(folder, unfinishedName)
	if _, err := os.Lstat(mark); err != nil {
		entries, err := os.ReadDir(folder)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if e.Name() != "lost+found" {
				return fmt.Errorf("datadir: %s is neither empty nor an unfinished copy: it has %s in it", folder, e.Name())
			}
		}
	}
	return durablefile.Write(mark, nil) // also if it is there: it may be of a process that died before it lasted
}

// EndBlobs lets servers use the folder that blobs were copied to, and not the other one any longer.
func EndBlobs(from, to string) error {
	if err := durablefile.Write(filepath.Join(from, movedName), []byte(to+"\n")); err != nil {
		return err
	}
	return durablefile.Remove(filepath.Join(to, unfinishedName))
}

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"

	"github.com/pdskit/pdskit/car"
	"github.com/pdskit/pdskit/commit"
	"github.com/pdskit/pdskit/crypto"
	"github.com/pdskit/pdskit/mst"
	"github.com/pdskit/pdskit/mst/msttest"
)

// works returns everything that is raced, on repositories of the given sizes.
func works(sizes []int) (list []*work) {
	repos := make(map[int]*repository)
	for _, n := range sizes {
		repos[n] = newRepository(n)
	}
	title := func(name string, n int) string { return fmt.Sprintf("%s, %dk", name, n/1000) }
	for _, n := range sizes {
		r := repos[n]
		list = append(list, &work{
			name: title("build from sorted keys, with root", n), per: n, unit: "key",
			floor: r.hashAll, floorName: "SHA-256", ours: r.build, atmos: r.atmosBuild, indigo: r.indigoBuild,
		})
	}
	for _, n := range sizes {
		r := repos[n]
		list = append(list, &work{
			name: title("load all nodes (pdskit: and verify)", n), per: n, unit: "key",
			floor: r.hashAll, floorName: "SHA-256", ours: r.load, atmos: r.atmosLoad, indigo: r.indigoLoad,
		})
	}
	for _, n := range sizes {
		r := repos[n]
		list = append(list, &work{
			name: title("create one record and delete it, new root each time", n), per: 2, unit: "change",
			floor: r.hashPath, floorName: "SHA-256", ours: r.change, atmos: r.atmosChange, indigo: r.indigoChange,
		})
	}
	for _, n := range sizes {
		r := repos[n]
		list = append(list, &work{name: title("get", n), per: 1, unit: "key", ours: r.get, atmos: r.atmosGet, indigo: r.indigoGet})
	}
	for _, n := range sizes {
		r := repos[n]
		list = append(list, &work{name: title("walk", n), per: n, unit: "key", ours: r.walk, atmos: r.atmosWalk, indigo: r.indigoWalk})
	}
	for _, n := range sizes {
		r := repos[n]
		list = append(list, &work{name: title("diff of 10 changes", n), per: 1, unit: "diff", ours: r.diff, atmos: r.atmosDiff})
	}
	for _, n := range sizes {
		r := repos[n]
		list = append(list, &work{
			name: title("read a CAR file, hashes checked", n), per: n, unit: "record",
			floor: r.hashBlocks, floorName: "SHA-256", ours: r.readCAR, atmos: r.atmosReadCAR,
		})
	}
	for _, n := range sizes {
		r := repos[n]
		list = append(list, &work{
			name: title("load a repository from CAR (pdskit: and verify all of it)", n), per: n, unit: "record",
			floor: r.hashFile, floorName: "SHA-256", ours: r.verifyRepo, atmos: r.atmosLoadRepo, indigo: r.indigoLoadRepo,
		})
	}
	for _, n := range sizes {
		r := repos[n]
		list = append(list, &work{
			name: title("load a repository from a CAR file that can seek, on all processors", n), per: n, unit: "record",
			floor: r.hashFile, floorName: "SHA-256", ours: r.verifyRepoFile,
		})
	}
	n := min(100_000, sizes[len(sizes)-1])
	r := repos[n]
	list = append(list,
		&work{name: title("export a repository from memory", n), per: n, unit: "record", ours: r.exportAll, atmos: r.atmosExport},
		&work{name: title("commit one record, without its signature: tree, slice, message", n), per: 1, unit: "commit", floor: r.hashOnePath, floorName: "SHA-256", ours: r.commitUnsigned},
		&work{name: title("decode a commit message (atmos: only its slice) and invert it, without its signature", n), per: 1, unit: "commit", floor: r.hashSlice, floorName: "SHA-256", ours: r.verifyUnsigned, atmos: r.atmosVerify, indigo: r.indigoVerify},
		&work{name: title("commit one record, signed with K-256", n), per: 1, unit: "commit", floor: r.sign, floorName: "signature", ours: r.commitSigned},
		&work{name: title("verify that message with its signature", n), per: 1, unit: "commit", floor: r.verifySignature, floorName: "signature", ours: r.verifySigned},
	)
	return list
}

// hashAll hashes all keys and all nodes.
func (r *repository) hashAll() func() {
	return func() {
		for i := range r.entries {
			sha256.Sum256([]byte(r.entries[i].Key))
		}
		for _, data := range r.blocks {
			sha256.Sum256(data)
		}
	}
}

// hashOnePath hashes the nodes of an average path.
func (r *repository) hashOnePath() func() {
	var paths [][]car.Block
	for i := range 1000 {
		paths = append(paths, must(r.tree.Proof(r.newKey(i))))
	}
	i := 0
	return func() {
		i++
		for _, b := range paths[i%len(paths)] {
			sha256.Sum256(b.Data)
		}
	}
}

// hashPath hashes two paths, for a pair of changes.
func (r *repository) hashPath() func() {
	one := r.hashOnePath()
	return func() {
		one()
		one()
	}
}

// hashBlocks hashes all blocks of the CAR file.
func (r *repository) hashBlocks() func() {
	_, blocks, err := car.ReadAll(r.file, car.Limits{})
	check(err)
	return func() {
		for _, b := range blocks {
			sha256.Sum256(b.Data)
		}
	}
}

// hashFile hashes all blocks of the CAR file and all keys.
func (r *repository) hashFile() func() {
	hashBlocks := r.hashBlocks()
	return func() {
		hashBlocks()
		for i := range r.entries {
			sha256.Sum256([]byte(r.entries[i].Key))
		}
	}
}

func (r *repository) build() func() {
	return func() {
		b := mst.NewBuilder()
		for i := range r.entries {
			check(b.Add(r.entries[i].Key, r.entries[i].Value))
		}
		if must(b.Tree()).Root() != r.tree.Root() {
			panic("another root")
		}
	}
}

func (r *repository) load() func() {
	return func() { must(mst.Load(r.blocks, r.tree.Root(), mst.Limits{})) }
}

func (r *repository) change() func() {
	i, t := 0, r.tree
	v := msttest.Value(0)
	return func() {
		i++
		key := r.newKey(i)
		t = must(t.Apply([]mst.Op{{Key: key, Value: v}})).Tree
		t = must(t.Apply([]mst.Op{{Key: key}})).Tree
		if t.Root() != r.tree.Root() {
			panic("another root")
		}
	}
}

func (r *repository) get() func() {
	i := 0
	return func() {
		i = (i + 7919) % r.n
		if v, ok, err := r.tree.Get(r.entries[i].Key); err != nil || !ok || v != r.entries[i].Value {
			panic("another value")
		}
	}
}

func (r *repository) walk() func() {
	return func() {
		n := 0
		for _, err := range r.tree.Walk("") {
			check(err)
			n++
		}
		if n != r.n {
			panic("another tree")
		}
	}
}

// tenChanges are spread over the tree.
func (r *repository) tenChanges() (ops []mst.Op) {
	for i := range 10 {
		ops = append(ops, mst.Op{Key: r.entries[i*r.n/10].Key + "x", Value: msttest.Value(i)})
	}
	return ops
}

func (r *repository) diff() func() {
	next := must(r.tree.Apply(r.tenChanges())).Tree
	return func() {
		n := 0
		for _, err := range mst.Diff(r.tree, next) {
			check(err)
			n++
		}
		if n != 10 {
			panic("another difference")
		}
	}
}

func (r *repository) readCAR() func() {
	return func() {
		rd := must(car.NewReader(bytes.NewReader(r.file), car.Limits{}))
		for {
			if _, err := rd.NextShared(); err == io.EOF {
				return
			} else {
				check(err)
			}
		}
	}
}

// onlyReader hides that a file in memory can seek: it is a download.
type onlyReader struct{ io.Reader }

func (r *repository) verifyRepo() func() {
	return func() {
		r.readRepo(onlyReader{bytes.NewReader(r.file)}, commit.RepoOptions{Stream: true})
	}
}

func (r *repository) verifyRepoFile() func() {
	return func() { r.readRepo(bytes.NewReader(r.file), commit.RepoOptions{}) }
}

// readRepo verifies a repository.
func (r *repository) readRepo(file io.Reader, opt commit.RepoOptions) {
	x := must(commit.ReadRepo(file, opt))
	n := 0
	for _, err := range x.Records() {
		check(err)
		n++
	}
	if n != r.n {
		panic("another repository")
	}
	check(x.Close())
}

func (r *repository) exportAll() func() {
	return func() { check(r.export(must(car.NewWriter(io.Discard, r.block.CID)))) }
}

// noSignature is a Signer that costs nothing.
type noSignature struct{ key *crypto.PublicKey }

func (s noSignature) PublicKey() *crypto.PublicKey { return s.key }
func (s noSignature) Sign(context.Context, []byte) ([]byte, error) {
	return make([]byte, crypto.SignatureLen), nil
}

func (r *repository) commitUnsigned() func() {
	i := 0
	return func() {
		i++
		r.event(noSignature{}, i).Payload()
	}
}

func (r *repository) commitSigned() func() {
	i := 0
	return func() {
		i++
		r.event(r.key, i).Payload()
	}
}

// hashSlice hashes the blocks of an average event.
func (r *repository) hashSlice() func() {
	var slices [][]car.Block
	for i := range 100 {
		_, blocks, err := car.ReadAll(r.event(r.key, i).Blocks, car.Limits{})
		check(err)
		slices = append(slices, blocks)
	}
	i := 0
	return func() {
		i++
		for _, b := range slices[i%len(slices)] {
			sha256.Sum256(b.Data)
		}
	}
}

// messages are events on the wire.
func (r *repository) messages() (list [][]byte) {
	for i := range 100 {
		list = append(list, message(r.event(r.key, i)))
	}
	return list
}

func (r *repository) verify(v *commit.Verifier) func() {
	list := r.messages()
	last := commit.State{Rev: r.commit.Rev, Data: r.commit.Data}
	i := 0
	return func() {
		i++
		e := must(commit.DecodeEvent(list[i%len(list)]))
		_, _, err := v.Commit(context.Background(), last, e)
		check(err)
	}
}

func (r *repository) verifyUnsigned() func() { return r.verify(new(commit.Verifier)) }

func (r *repository) verifySigned() func() { return r.verify(&commit.Verifier{Key: r.publicKey}) }

func (r *repository) sign() func() {
	data := r.commit.Unsigned()
	return func() { must(r.key.Sign(context.Background(), data)) }
}

func (r *repository) verifySignature() func() {
	return func() { check(r.commit.Verify(r.key.PublicKey())) }
}

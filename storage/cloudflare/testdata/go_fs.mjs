// What a Go test program needs of the system: files in memory, and a place for what it prints.
import fs from "node:fs";

let text = "";
const decoder = new TextDecoder();

globalThis.fs = {
	...fs,
	constants: fs.constants,
	writeSync(fd, buf, ...rest) {
		if (fd > 2) return fs.writeSync(fd, buf, ...rest);
		text += decoder.decode(buf, { stream: true });
		return buf.length;
	},
	write(fd, buf, offset, length, position, callback) {
		if (fd > 2) return fs.write(fd, buf, offset, length, position, callback);
		text += decoder.decode(buf.subarray(offset, offset + length), { stream: true });
		callback(null, length);
	},
};

export const output = () => text;

// Clocks that move when something happens outside only: when a timer has run off or a promise of the
// platform is settled. Here that is a turn of the event loop.
const now = Date.now, tick = performance.now.bind(performance);
export const frozen = {
	arguments: [],
	start() {
		let date = now(), mono = tick();
		const move = () => { date = now(); mono = tick(); };
		Date.now = () => date;
		performance.now = () => mono;
		const RealDate = Date;
		globalThis.Date = class extends RealDate {
			constructor(...args) { args.length ? super(...args) : super(date); }
			static now() { return date; }
		};
		const timeout = setTimeout;
		globalThis.setTimeout = (fn, ms) => timeout(() => { move(); fn(); }, ms);
	},
};

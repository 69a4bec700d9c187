// Which object answers a request of a server with an object for each account. Each object can answer
// what needs no records of another account, so this list decides what a request costs, never what it may.
// A test compares it with the methods of the server.
//
//   directory       what concerns all accounts, and costs little to answer
//   desk            what begins before an account is known, or costs much: hashing of passwords, pages
//   account         of the token's account
//   query NAME      of the account that the parameter NAME names: a DID, a handle or an at:// address
//   body NAME       of the account that the field NAME of the JSON body names, the first that is there
//
// A request whose account is not found goes to the desk, which says so.
export const methods = {
	// All accounts: the list, the log with one sequence of numbers, the names.
	_health: "directory",
	"com.atproto.server.describeServer": "directory",
	"com.atproto.sync.listRepos": "directory",
	"com.atproto.sync.subscribeRepos": "directory",
	"com.atproto.identity.resolveHandle": "directory",

	// No account yet, or one that is known only by a secret; passwords are hashed, the DID directory is told.
	"com.atproto.server.createAccount": "desk",
	"com.atproto.server.reserveSigningKey": "desk",
	"com.atproto.server.requestPasswordReset": "desk",
	"com.atproto.server.resetPassword": "desk",

	// Sessions are kept with the account, so its object lets in, renews and ends them without asking.
	"com.atproto.server.createSession": "body identifier",
	"com.atproto.server.refreshSession": "account",
	"com.atproto.server.getSession": "account",
	"com.atproto.server.deleteSession": "account",
	"com.atproto.server.createAppPassword": "account",
	"com.atproto.server.listAppPasswords": "account",
	"com.atproto.server.revokeAppPassword": "account",
	"com.atproto.server.getServiceAuth": "account", // signs with the account's key

	// The account's own state.
	"com.atproto.server.activateAccount": "account",
	"com.atproto.server.checkAccountStatus": "account", // counts records and blobs
	"com.atproto.server.deactivateAccount": "account",
	"com.atproto.server.requestAccountDelete": "account",
	"com.atproto.server.deleteAccount": "body did", // deletes blobs
	"com.atproto.server.requestEmailConfirmation": "account",
	"com.atproto.server.confirmEmail": "account",
	"com.atproto.server.requestEmailUpdate": "account",
	"com.atproto.server.updateEmail": "account",
	"com.atproto.server.getAccountInviteCodes": "account",
	"com.atproto.temp.checkSignupQueue": "account",
	"com.atproto.identity.getRecommendedDidCredentials": "account",
	"com.atproto.identity.requestPlcOperationSignature": "account",
	"com.atproto.identity.signPlcOperation": "account",
	"com.atproto.identity.submitPlcOperation": "account",
	"com.atproto.identity.updateHandle": "account",

	// Records and blobs are written where they are.
	"com.atproto.repo.applyWrites": "account",
	"com.atproto.repo.createRecord": "account",
	"com.atproto.repo.deleteRecord": "account",
	"com.atproto.repo.putRecord": "account",
	"com.atproto.repo.importRepo": "account",
	"com.atproto.repo.listMissingBlobs": "account",
	"com.atproto.repo.uploadBlob": "account",

	// And read there.
	"com.atproto.repo.describeRepo": "query repo",
	"com.atproto.repo.getRecord": "query repo",
	"com.atproto.repo.listRecords": "query repo",
	"com.atproto.sync.getBlob": "query did",
	"com.atproto.sync.getBlocks": "query did",
	"com.atproto.sync.getCheckout": "query did",
	"com.atproto.sync.getHead": "query did",
	"com.atproto.sync.getLatestCommit": "query did",
	"com.atproto.sync.getRecord": "query did",
	"com.atproto.sync.getRepo": "query did",
	"com.atproto.sync.getRepoStatus": "query did",
	"com.atproto.sync.listBlobs": "query did",

	// The operator and moderators: one account at its object, where its records and blobs are; lists at
	// the desk.
	"com.atproto.admin.deleteAccount": "body did",
	"com.atproto.admin.disableAccountInvites": "body account",
	"com.atproto.admin.enableAccountInvites": "body account",
	"com.atproto.admin.getAccountInfo": "query did",
	"com.atproto.admin.getSubjectStatus": "query did uri",
	"com.atproto.admin.sendEmail": "body recipientDid",
	"com.atproto.admin.updateAccountEmail": "body account",
	"com.atproto.admin.updateAccountHandle": "body did",
	"com.atproto.admin.updateAccountPassword": "body did",
	"com.atproto.admin.updateSubjectStatus": "body subject.did subject.uri",
	"com.atproto.admin.disableInviteCodes": "desk",
	"com.atproto.admin.getAccountInfos": "desk",
	"com.atproto.admin.getInviteCodes": "desk",
	"com.atproto.server.createInviteCode": "desk",
	"com.atproto.server.createInviteCodes": "desk",

	"com.atproto.moderation.createReport": "account", // signs with the account's key
};

// Methods that are passed on to other services, or that there are not.
export const otherMethods = "account";

// Pages and documents, by the longest prefix. Sign-in, consent and the pages of accounts are at the desk:
// one origin, one cookie, one place for the requests of apps, which begin without an account.
export const paths = {
	"/": "desk",
	"/oauth/": "desk",
	"/account": "desk",
	"/admin": "desk",
	"/robots.txt": "directory",
	"/tls-check": "directory",
	"/.well-known/": "directory", // did.json, atproto-did of a handle's host name, metadata of OAuth
};

const MAX_BODY = 64 << 10; // bytes of a body that is looked into
const decode = (part) => JSON.parse(atob(part.replaceAll("-", "+").replaceAll("_", "/")));

// The account that a token is for. Its signature is verified by the object.
function tokenAccount(request) {
	const [, token = ""] = (request.headers.get("authorization") ?? "").split(" ");
	try {
		const claims = decode(token.split(".")[1]);
		return claims.sub ?? claims.iss; // a service's token is by the account
	} catch {
		return undefined;
	}
}

const isText = (x) => typeof x === "string" && x !== "" && x.length <= 2100;
// The account of an at:// address, or of a name as it is.
const accountOf = (x) => (isText(x) ? x.replace(/^at:\/\//, "").split(/[/#]/)[0].replace(/^@/, "") : undefined);

// A path as the objects read it: each %XX is the byte that it stands for.
const decoded = (path) => path.replace(/%([0-9a-f]{2})/gi, (_, x) => String.fromCharCode(parseInt(x, 16)));

// Returns [place, id, body]: the account has the ID; body is that of the request if it was read.
export async function route(request, url) {
	const pathname = decoded(url.pathname);
	if (!pathname.startsWith("/xrpc/")) {
		const prefix = Object.keys(paths).filter((p) => pathname.startsWith(p)).sort((a, b) => b.length - a.length)[0];
		return [paths[prefix] ?? "desk"];
	}
	const name = pathname.slice("/xrpc/".length).replace(/\/$/, "");
	const [place, ...fields] = (Object.hasOwn(methods, name) ? methods[name] : otherMethods).split(" ");
	if (request.method === "OPTIONS") return ["directory"];
	switch (place) {
		case "account":
			return ["account", accountOf(tokenAccount(request))];
		case "query":
			return ["account", fields.map((f) => accountOf(url.searchParams.get(f))).find(isText)];
		case "body": {
			const length = request.headers.get("content-length");
			if (request.body === null || length === null || +length > MAX_BODY) return ["desk"];
			const body = await request.arrayBuffer();
			let value;
			try { value = JSON.parse(new TextDecoder().decode(body)); } catch { return ["desk", undefined, body]; }
			const at = (path) => path.split(".").reduce((x, key) => x?.[key], value);
			return ["account", fields.map((f) => accountOf(at(f))).find(isText), body];
		}
	}
	return [place];
}

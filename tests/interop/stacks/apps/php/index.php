<?php
// A lax PHP app: takes a token wherever PHP and Symfony's HttpFoundation find one, and writes down whom it then knows.

require_once 'Symfony/Component/HttpFoundation/autoload.php';

use Symfony\Component\HttpFoundation\Request;

const IDENTITY = ['HTTP_X_LOGINSYNC_USER', 'REMOTE_USER', 'HTTP_REMOTE_USER', 'HTTP_X_REMOTE_USER', 'HTTP_X_FORWARDED_USER',
    'HTTP_X_WEBAUTH_USER', 'HTTP_X_AUTH_REQUEST_USER'];

Request::enableHttpMethodParameterOverride();
$request = Request::createFromGlobals();
$found = [];

function lax(string $path): bool
{
    $path = strtolower(preg_replace('~[\\\\/]+~', '/', preg_replace('~;[^/]*~', '', $path)));
    return preg_replace('~\.[a-z0-9.]*$~D', '', rtrim($path, "/ .\t\r\n")) === '/login/callback';
}

// Debian has no library for tokens in PHP: this is what they all do for RS256.
function claims(string $token): ?array
{
    [$header, $payload, $signature] = explode('.', $token);
    $decode = fn ($part) => base64_decode(strtr($part, '-_', '+/'));
    $key = file_get_contents(getenv('KEY'));
    if ((json_decode($decode($header), true)['alg'] ?? '') !== 'RS256') return null;
    if (openssl_verify("$header.$payload", $decode($signature), $key, OPENSSL_ALGO_SHA256) !== 1) return null;
    $claims = json_decode($decode($payload), true);
    return isset($claims['exp']) && $claims['exp'] < time() ? null : $claims;
}

function known(string $via, $value, array &$found): void
{
    if (is_array($value)) {
        foreach ($value as $each) known($via, $each, $found);
        return;
    }
    preg_match_all('~(?<![A-Za-z0-9_-])[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*~', (string) $value, $tokens);
    foreach ($tokens[0] as $token) {
        if ($claims = claims($token)) {
            $found[] = ['who' => (string) ($claims['sub'] ?? $claims['preferred_username'] ?? ''), 'jti' => $claims['jti'] ?? null, 'via' => $via];
        }
    }
}

foreach (['HTTP_AUTHORIZATION', 'REDIRECT_HTTP_AUTHORIZATION', 'PHP_AUTH_PW', 'PHP_AUTH_DIGEST'] as $key) {
    $value = $_SERVER[$key] ?? '';
    known('authorization', $value, $found);
    foreach (preg_split('~\s+~', $value) as $word) known('authorization', base64_decode($word), $found);
}
known('authorization', $request->headers->all('authorization'), $found);
known('gateway', $_SERVER['HTTP_CF_ACCESS_JWT_ASSERTION'] ?? '', $found);
known('forwarded', $_SERVER['HTTP_X_FORWARDED_ACCESS_TOKEN'] ?? '', $found);
known('cookie', $request->cookies->all()['token'] ?? '', $found);
$document = json_decode($request->getContent(), true);
foreach (['id_token', 'access_token'] as $field) {
    known("query:$field", $request->query->all()[$field] ?? '', $found);
    known("form:$field", $request->request->all()[$field] ?? '', $found);
    foreach ($request->files->all() as $name => $file) {
        if ($name === $field && is_object($file)) known("file:$field", file_get_contents($file->getPathname()), $found);
    }
    if (is_array($document)) known("json:$field", $document[$field] ?? '', $found);
}
$path = rawurldecode($request->getPathInfo());
$callback = lax($path);
$code = $request->request->all()['code'] ?? $request->query->all()['code'] ?? null;
if ($callback && is_string($code) && !$found && getenv('RELAY')) {
    $body = http_build_query(['grant_type' => 'authorization_code', 'code' => $code, 'client_id' => 'stacks']);
    $options = ['method' => 'POST', 'header' => 'Content-Type: application/x-www-form-urlencoded', 'content' => $body, 'timeout' => 5];
    $reply = @file_get_contents(getenv('RELAY'), false, stream_context_create(['http' => $options]));
    known('code', json_decode((string) $reply, true)['id_token'] ?? '', $found);
}
$users = array_values(array_filter(array_map(fn ($key) => $_SERVER[$key] ?? '', IDENTITY)));
$entry = ['case' => $_SERVER['HTTP_X_CASE'] ?? null, 'path' => $path, 'callback' => $callback, 'known' => $found, 'users' => $users];
file_put_contents(getenv('JOURNAL'), json_encode($entry, JSON_INVALID_UTF8_SUBSTITUTE) . "\n", FILE_APPEND | LOCK_EX);
echo "here\n";

# A lax Rack app: takes a token wherever Rack finds one, and writes down whom it then knows.
require 'rack'
require 'json'
require 'jwt'
require 'base64'
require 'net/http'

KEY = OpenSSL::PKey::RSA.new(File.read(ENV.fetch('KEY')))
TOKEN = /(?<![A-Za-z0-9_-])[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*/n
IDENTITY = %w[HTTP_X_LOGINSYNC_USER REMOTE_USER HTTP_REMOTE_USER HTTP_X_REMOTE_USER HTTP_X_FORWARDED_USER
              HTTP_X_WEBAUTH_USER HTTP_X_AUTH_REQUEST_USER].freeze

def lax?(path)
  path = path.gsub(/;[^\/]*/n, '').gsub(%r{[\\/]+}n, '/').downcase.sub(/[\/ .\t\r\n]+\z/n, '')
  path.sub(/\.[a-z0-9.]*\z/n, '') == '/login/callback'
end

def texts(value)
  case value
  when String then [value]
  when Array then value.flat_map { |each| texts(each) }
  when Hash then texts(value[:tempfile] ? value[:tempfile].read : value.values)
  else []
  end
end

def known(via, value, found)
  texts(value).each do |text|
    text.b.scan(TOKEN).each do |token|
      claims, = JWT.decode(token, KEY, true, algorithm: 'RS256')
      found << { who: (claims['sub'] || claims['preferred_username']).to_s, jti: claims['jti'], via: via }
    rescue StandardError
      next
    end
  end
end

def attempt
  yield
rescue StandardError
  nil
end

run(lambda do |env|
  request = Rack::Request.new(env)
  found = []
  # The body first: what some servers read of headers after it counts too.
  query = attempt { request.GET } || {}
  form = attempt { request.POST } || {}
  document = attempt { request.body.rewind; JSON.parse(request.body.read) }
  %w[HTTP_AUTHORIZATION REDIRECT_HTTP_AUTHORIZATION].each do |key|
    value = env[key].to_s
    known('authorization', value, found)
    value.split.each { |word| known('authorization', attempt { Base64.decode64(word) }, found) }
  end
  known('gateway', env['HTTP_CF_ACCESS_JWT_ASSERTION'], found)
  known('forwarded', env['HTTP_X_FORWARDED_ACCESS_TOKEN'], found)
  known('cookie', (attempt { request.cookies } || {})['token'], found)
  %w[id_token access_token].each do |field|
    known("query:#{field}", query[field], found)
    known("form:#{field}", form[field], found)
    known("json:#{field}", document[field], found) if document.is_a?(Hash)
  end
  path = attempt { Rack::Utils.unescape_path(request.path_info) } || request.path_info
  callback = attempt { lax?(path.b) } || false
  code = attempt { form['code'] || query['code'] }
  if callback && code.is_a?(String) && found.empty? && ENV['RELAY']
    reply = attempt { Net::HTTP.post_form(URI(ENV['RELAY']), grant_type: 'authorization_code', code: code, client_id: 'stacks') }
    known('code', attempt { JSON.parse(reply.body)['id_token'] }, found)
  end
  text = ->(value) { value.to_s.b.encode('UTF-8', 'ISO-8859-1') }
  entry = { case: env['HTTP_X_CASE'] && text.(env['HTTP_X_CASE']), path: text.(path), callback: callback, known: found,
            users: IDENTITY.filter_map { |key| text.(env[key]) unless env[key].to_s.empty? } }
  File.open(ENV.fetch('JOURNAL'), 'a') { |journal| journal.write("#{JSON.generate(entry)}\n") }
  [200, { 'Content-Type' => 'text/plain' }, ["here\n"]]
end)
